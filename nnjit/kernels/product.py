"""The matrix products of the layers, on rows of lanes.

A block of the result stays in registers while the loop walks along the axis of the sum, so that
all of them run near the processor's peak for every size. They take transposed and sliced weights as
they are and add in one fixed order; BLAS would need contiguous copies and brings its own threads.
"""

import numpy as np

from ._jit import inlined, jit
from ._lanes import LANES, load, store, total, transpose, zeros

# Sums over time are taken in spans, the last one first, so the time axis may be cut at any multiple
# of GRAIN and the pieces run backwards: the bits stay the same. A span is what the first levels of
# cache hold of the operands.
SPAN = 32
GRAIN = 4 * SPAN


@inlined
def _eight_rows(out, t, i, w, m, x, s, add, f):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zeros(out)
    if add:
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
    store(out, t, i, f(a0))
    store(out, t, i + 1, f(a1))
    store(out, t, i + 2, f(a2))
    store(out, t, i + 3, f(a3))
    store(out, t, i + 4, f(a4))
    store(out, t, i + 5, f(a5))
    store(out, t, i + 6, f(a6))
    store(out, t, i + 7, f(a7))


@inlined
def product(out, t, first, w, x, s, add, f):
    """Write ``f(w.T @ x[s])`` to rows of ``out[t]``, after adding what stands there if ``add``."""
    K, M = w.shape
    whole = M - M % 8
    for m in range(0, whole, 8):
        _eight_rows(out, t, first + m, w, m, x, s, add, f)
    for m in range(whole, M):
        a = load(out, t, first + m) if add else zeros(out)
        for k in range(K):
            a = a + w[k, m] * load(x, s, k)
        store(out, t, first + m, f(a))


@inlined
def identity(x):
    """Return x."""
    return x


@inlined
def add_product(out, t, first, w, x, s, f=identity):
    """Add ``w.T @ x[s]`` to rows of ``out[t]``, from row ``first`` on, then apply ``f`` to them.

    Parameters
    ----------
    out : (T, M', LANES)
    w : (K, M), any strides
    x : (S, K, LANES)
    f : function of lanes
        Applied while the rows are still in registers.
    """
    product(out, t, first, w, x, s, True, f)


@inlined
def set_product(out, t, first, w, x, s):
    """Write ``w.T @ x[s]`` to rows of ``out[t]``; see `add_product`."""
    product(out, t, first, w, x, s, False, identity)


@jit
def add_outer(out, x, y, first):
    """Add the sum over steps and lanes of ``x[t, k] * y[t, first + m]`` to ``out[k, m]``.

    Parameters
    ----------
    out : (K, M), any strides
    x : (T or more, K, LANES)
    y : (T, M or more, LANES)
    """
    T, (K, M) = y.shape[0], out.shape
    wide, whole_k, whole_m = M - M % LANES, K - K % 4, M - M % 4
    rows = np.empty((SPAN * LANES, LANES), y.dtype)
    for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
        end = min(begin + SPAN, T)
        for m in range(0, wide, LANES):
            for t in range(begin, end):
                transpose(rows, (t - begin) * LANES, 0, y, t, first + m)
            _add_columns(out, m, x, begin, end, rows)
        for k in range(0, whole_k, 4):
            for m in range(wide, whole_m, 4):
                _add_four_by_four(out, k, m, x, y, first + m, begin, end)
        for k in range(out.shape[0]):
            for m in range(wide if k >= whole_k else whole_m, M):
                a = zeros(x)
                for t in range(begin, end):
                    a = a + load(x, t, k) * load(y, t, first + m)
                out[k, m] += total(a)


@inlined
def _add_four_by_four(out, k, m, x, y, j, begin, end):
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


@inlined
def _add_totals(out, k, m, a0, a1, a2, a3):
    out[k, m] += total(a0)
    out[k, m + 1] += total(a1)
    out[k, m + 2] += total(a2)
    out[k, m + 3] += total(a3)


@inlined
def _add_columns(out, m, x, begin, end, rows):
    """Add to LANES columns of ``out`` what the steps from begin to end give; one vector a row."""
    K = out.shape[0]
    whole = K - K % 8
    for k in range(0, whole, 8):
        _add_eight_by_lanes(out, k, m, x, begin, end, rows)
    for k in range(whole, K):
        a = zeros(rows)
        for t in range(begin, end):
            for n in range(LANES):
                a = a + x[t, k, n] * load(rows, (t - begin) * LANES + n, 0)
        store(out, k, m, load(out, k, m) + a)


@inlined
def _add_eight_by_lanes(out, k, m, x, begin, end, rows):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zeros(rows)
    for t in range(begin, end):
        for n in range(LANES):
            v = load(rows, (t - begin) * LANES + n, 0)
            a0 = a0 + x[t, k, n] * v
            a1 = a1 + x[t, k + 1, n] * v
            a2 = a2 + x[t, k + 2, n] * v
            a3 = a3 + x[t, k + 3, n] * v
            a4 = a4 + x[t, k + 4, n] * v
            a5 = a5 + x[t, k + 5, n] * v
            a6 = a6 + x[t, k + 6, n] * v
            a7 = a7 + x[t, k + 7, n] * v
    store(out, k, m, load(out, k, m) + a0)
    store(out, k + 1, m, load(out, k + 1, m) + a1)
    store(out, k + 2, m, load(out, k + 2, m) + a2)
    store(out, k + 3, m, load(out, k + 3, m) + a3)
    store(out, k + 4, m, load(out, k + 4, m) + a4)
    store(out, k + 5, m, load(out, k + 5, m) + a5)
    store(out, k + 6, m, load(out, k + 6, m) + a6)
    store(out, k + 7, m, load(out, k + 7, m) + a7)


@jit
def add_sum(out, y, first):
    """Add the sum over steps and lanes of ``y[t, first + m]`` to ``out[m]``; out is (M,)."""
    T, M = y.shape[0], out.shape[0]
    sums = np.empty((1, M, LANES), y.dtype)
    for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
        for m in range(M):
            store(sums, 0, m, zeros(y))
        for t in range(begin, min(begin + SPAN, T)):
            for m in range(M):
                store(sums, 0, m, load(sums, 0, m) + load(y, t, first + m))
        for m in range(M):
            out[m] += total(load(sums, 0, m))
