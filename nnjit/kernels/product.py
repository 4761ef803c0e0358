"""The two matrix products of a recurrent layer, on rows of lanes.

A block of the result stays in registers while the loop walks along the axis of the sum, so that
both run near the processor's peak for every size. They take transposed and sliced weights as they
are and add in one fixed order; BLAS would need contiguous copies and brings threads of its own.
"""

from ._jit import jit
from ._lanes import load, store, total, zeros


@jit
def _add_rows_8(out, t, i, w, m, x, s):
    a0, a1 = load(out, t, i), load(out, t, i + 1)
    a2, a3 = load(out, t, i + 2), load(out, t, i + 3)
    a4, a5 = load(out, t, i + 4), load(out, t, i + 5)
    a6, a7 = load(out, t, i + 6), load(out, t, i + 7)
    for k in range(w.shape[0]):
        v = load(x, s, k)
        a0 = a0 + w[k, m] * v
        a1 = a1 + w[k, m + 1] * v
        a2 = a2 + w[k, m + 2] * v
        a3 = a3 + w[k, m + 3] * v
        a4 = a4 + w[k, m + 4] * v
        a5 = a5 + w[k, m + 5] * v
        a6 = a6 + w[k, m + 6] * v
        a7 = a7 + w[k, m + 7] * v
    store(out, t, i, a0)
    store(out, t, i + 1, a1)
    store(out, t, i + 2, a2)
    store(out, t, i + 3, a3)
    store(out, t, i + 4, a4)
    store(out, t, i + 5, a5)
    store(out, t, i + 6, a6)
    store(out, t, i + 7, a7)


@jit
def add_product(out, t, first, w, x, s):
    """Add ``w.T @ x[s]`` to rows of ``out[t]``, from row ``first`` on.

    Parameters
    ----------
    out : (T, M', LANES)
    w : (K, M), any strides
    x : (S, K, LANES)
    """
    K, M = w.shape
    whole = M - M % 8
    for m in range(0, whole, 8):
        _add_rows_8(out, t, first + m, w, m, x, s)
    for m in range(whole, M):
        a = load(out, t, first + m)
        for k in range(K):
            a = a + w[k, m] * load(x, s, k)
        store(out, t, first + m, a)


# Sums over time are taken in spans, the last one first. A caller may therefore cut the time axis
# at any multiple of SPAN and run the pieces backwards: the bits stay the same. A span is also what
# the first two levels of cache hold of x and y.
SPAN = 128


@jit
def _add_outer_4x4(out, k, m, x, y, j, begin, end):
    a00 = a01 = a02 = a03 = zeros(x)
    a10 = a11 = a12 = a13 = zeros(x)
    a20 = a21 = a22 = a23 = zeros(x)
    a30 = a31 = a32 = a33 = zeros(x)
    for t in range(begin, end):
        x0, x1, x2, x3 = load(x, t, k), load(x, t, k + 1), load(x, t, k + 2), load(x, t, k + 3)
        v = load(y, t, j)
        a00, a10, a20, a30 = a00 + x0 * v, a10 + x1 * v, a20 + x2 * v, a30 + x3 * v
        v = load(y, t, j + 1)
        a01, a11, a21, a31 = a01 + x0 * v, a11 + x1 * v, a21 + x2 * v, a31 + x3 * v
        v = load(y, t, j + 2)
        a02, a12, a22, a32 = a02 + x0 * v, a12 + x1 * v, a22 + x2 * v, a32 + x3 * v
        v = load(y, t, j + 3)
        a03, a13, a23, a33 = a03 + x0 * v, a13 + x1 * v, a23 + x2 * v, a33 + x3 * v
    _add_totals(out, k, m, a00, a01, a02, a03)
    _add_totals(out, k + 1, m, a10, a11, a12, a13)
    _add_totals(out, k + 2, m, a20, a21, a22, a23)
    _add_totals(out, k + 3, m, a30, a31, a32, a33)


@jit
def _add_totals(out, k, m, a0, a1, a2, a3):
    out[k, m] += total(a0)
    out[k, m + 1] += total(a1)
    out[k, m + 2] += total(a2)
    out[k, m + 3] += total(a3)


@jit
def _add_outer_1x1(out, k, m, x, y, j, begin, end):
    a = zeros(x)
    for t in range(begin, end):
        a = a + load(x, t, k) * load(y, t, j)
    out[k, m] += total(a)


@jit
def add_outer(out, x, y, first):
    """Add the sum over steps and lanes of ``x[t, k] * y[t, first + m]`` to ``out[k, m]``.

    Parameters
    ----------
    out : (K, M), any strides
    x : (T or more, K, LANES)
    y : (T, M or more, LANES)
    """
    K, M = out.shape
    whole_k, whole_m = K - K % 4, M - M % 4
    T = y.shape[0]
    for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
        end = min(begin + SPAN, T)
        for k in range(0, whole_k, 4):
            for m in range(0, whole_m, 4):
                _add_outer_4x4(out, k, m, x, y, first + m, begin, end)
            for m in range(whole_m, M):
                for i in range(k, k + 4):
                    _add_outer_1x1(out, i, m, x, y, first + m, begin, end)
        for k in range(whole_k, K):
            for m in range(M):
                _add_outer_1x1(out, k, m, x, y, first + m, begin, end)


@jit
def add_sum(out, y, first):
    """Add the sum over steps and lanes of ``y[t, first + m]`` to ``out[m]``; out is (M,)."""
    T = y.shape[0]
    for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
        end = min(begin + SPAN, T)
        for m in range(out.shape[0]):
            a = zeros(y)
            for t in range(begin, end):
                a = a + load(y, t, first + m)
            out[m] += total(a)
