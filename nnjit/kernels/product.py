"""The matrix products of the layers, on rows of lanes.

A block of the result stays in registers while the loop runs along the axis of the sum, so that
every size runs near the processor's peak. The order of every sum is fixed. That of BLAS is not, and
BLAS starts its own threads.
"""

import numpy as np

from ._jit import inlined, jit
from ._lanes import LANES, lane, load, store, total, transpose, weight, zeros

# Sums over time are taken in spans, the last one first. So the time axis can be cut at any multiple
# of GRAIN, with the segments run backwards, and the bits stay the same. The operands of a span fit
# the first levels of cache.
SPAN = 32
GRAIN = 4 * SPAN


@jit
def packed(w):
    """Return weights (K, M) as (ceil(M / 8), K, 8).

    A product reads them in this order, contiguously; rows of a wide matrix would each lie in
    another page of memory.
    """
    K, M = w.shape
    out = np.zeros(((M + 7) // 8, K, 8), w.dtype)
    for m in range(M):
        for k in range(K):
            out[m // 8, k, m % 8] = w[k, m]
    return out


@jit
def packed_transposed(w):
    """Return weights (M, K) as `packed` returns their transpose, which takes long to compile."""
    M, K = w.shape
    out = np.zeros(((M + 7) // 8, K, 8), w.dtype)
    for m in range(M):
        for k in range(K):
            out[m // 8, k, m % 8] = w[m, k]
    return out


@inlined
def at(w, k, m):
    """Return the weight of input k and row m, also from what `packed` returned."""
    return weight(w, k, m)


@inlined
def at_transposed(w, k, m):
    """Return the weight of input k and row m of a transposed w."""
    return weight(w, m, k)


@inlined
def _eight_rows(out, i, t, j, w, m, x, s, add, f, at):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zeros(out)
    for k in range(x.shape[2]):
        v = load(x, i, s, k)
        a0 = a0 + at(w, k, m) * v
        a1 = a1 + at(w, k, m + 1) * v
        a2 = a2 + at(w, k, m + 2) * v
        a3 = a3 + at(w, k, m + 3) * v
        a4 = a4 + at(w, k, m + 4) * v
        a5 = a5 + at(w, k, m + 5) * v
        a6 = a6 + at(w, k, m + 6) * v
        a7 = a7 + at(w, k, m + 7) * v
    if add:  # last, which hides the latency of loading `out`
        a0, a1 = a0 + load(out, i, t, j), a1 + load(out, i, t, j + 1)
        a2, a3 = a2 + load(out, i, t, j + 2), a3 + load(out, i, t, j + 3)
        a4, a5 = a4 + load(out, i, t, j + 4), a5 + load(out, i, t, j + 5)
        a6, a7 = a6 + load(out, i, t, j + 6), a7 + load(out, i, t, j + 7)
    store(out, i, t, j, f(a0))
    store(out, i, t, j + 1, f(a1))
    store(out, i, t, j + 2, f(a2))
    store(out, i, t, j + 3, f(a3))
    store(out, i, t, j + 4, f(a4))
    store(out, i, t, j + 5, f(a5))
    store(out, i, t, j + 6, f(a6))
    store(out, i, t, j + 7, f(a7))


@inlined
def _few_rows(out, i, t, j, n, w, m, x, s, add, f, at):
    """Compute n rows, 1 to 4; for n below 4 the last one is computed again."""
    n1, n2, n3 = min(1, n - 1), min(2, n - 1), min(3, n - 1)
    a0 = a1 = a2 = a3 = zeros(out)
    for k in range(x.shape[2]):
        v = load(x, i, s, k)
        a0 = a0 + at(w, k, m) * v
        a1 = a1 + at(w, k, m + n1) * v
        a2 = a2 + at(w, k, m + n2) * v
        a3 = a3 + at(w, k, m + n3) * v
    if add:
        a0, a1 = a0 + load(out, i, t, j), a1 + load(out, i, t, j + n1)
        a2, a3 = a2 + load(out, i, t, j + n2), a3 + load(out, i, t, j + n3)
    store(out, i, t, j, f(a0))
    store(out, i, t, j + n1, f(a1))
    store(out, i, t, j + n2, f(a2))
    store(out, i, t, j + n3, f(a3))


@inlined
def product(out, t, first, last, w, x, s, add, f, at):
    """Write ``f(w.T @ x[:, s])`` to rows first to last of ``out[:, t]``; see `add_product`.

    With ``add``, the old values are added to the sum before f. ``at`` reads an element of w. The
    inner loop runs over tiles, so that a block of w stays in the first-level cache, and the sums of
    different tiles are independent.
    """
    blocks = (last - first) // 8
    for block in range(blocks):
        m = 8 * block
        for i in range(out.shape[0]):
            _eight_rows(out, i, t, first + m, w, m, x, s, add, f, at)
    for m in range(8 * blocks, last - first, 4):
        n = min(4, last - first - m)
        for i in range(out.shape[0]):
            _few_rows(out, i, t, first + m, n, w, m, x, s, add, f, at)


@inlined
def identity(x):
    """Return x."""
    return x


@inlined
def add_product(out, t, first, last, w, x, s, f=identity):
    """Add ``w.T @ x[:, s]`` to rows first to last of ``out[:, t]``, then apply ``f`` to them.

    Parameters
    ----------
    out : (tiles, T, M', LANES)
    w
        (K, last - first), `packed`.
    x : (tiles, S, K, LANES)
    f : function of lanes
        Applied while the rows are still in registers.
    """
    product(out, t, first, last, w, x, s, True, f, at)


@inlined
def set_product(out, t, first, last, w, x, s):
    """Write ``w.T @ x[:, s]`` to rows first to last of ``out[:, t]``; see `add_product`."""
    product(out, t, first, last, w, x, s, False, identity, at)


@jit
def add_outer(out, x, y, first):
    """Add the sum over steps and lanes of ``x[i, t, k] * y[i, t, first + m]`` to ``out[i, k, m]``.

    Parameters
    ----------
    out : (tiles, K, M), any strides
    x : (tiles, T or more, K, LANES)
    y : (tiles, T, M or more, LANES)
    """
    T, (K, M) = y.shape[1], out.shape[1:]
    wide, fours_k = M - M % LANES, K - K % 4
    fours_m = M - 1 if M % 4 == 1 else M  # two or three columns are computed as four
    rows = np.empty((1, SPAN * LANES, LANES), y.dtype)
    for i in range(out.shape[0]):
        for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
            end = min(begin + SPAN, T)
            for m in range(0, wide, LANES):
                for t in range(begin, end):
                    transpose(rows, 0, (t - begin) * LANES, y, i, t, first + m)
                add_columns(out, i, m, x, i, begin, end, rows, 0)
            for k in range(0, fours_k, 4):
                for m in range(wide, fours_m, 4):
                    _add_four_by_four(out, i, k, m, x, y, first, begin, end)
                if fours_m < M:
                    _add_four_by_one(out, i, k, fours_m, x, y, first + fours_m, begin, end)
            for k in range(fours_k, K):
                for m in range(wide, M, 4):
                    _add_one_by_four(out, i, k, m, x, y, first, begin, end)


@inlined
def _four_of(out, m, first):
    """Return the rows of y for columns m to m + 4; beyond the last column, the last again."""
    last = out.shape[2] - 1
    return first + m, first + min(m + 1, last), first + min(m + 2, last), first + min(m + 3, last)


@inlined
def _add_four_by_four(out, i, k, m, x, y, first, begin, end):
    j0, j1, j2, j3 = _four_of(out, m, first)
    a00 = a01 = a02 = a03 = zeros(x)
    a10 = a11 = a12 = a13 = zeros(x)
    a20 = a21 = a22 = a23 = zeros(x)
    a30 = a31 = a32 = a33 = zeros(x)
    for t in range(begin, end):
        x0, x1 = load(x, i, t, k), load(x, i, t, k + 1)
        x2, x3 = load(x, i, t, k + 2), load(x, i, t, k + 3)
        v = load(y, i, t, j0)
        a00, a10, a20, a30 = a00 + x0 * v, a10 + x1 * v, a20 + x2 * v, a30 + x3 * v
        v = load(y, i, t, j1)
        a01, a11, a21, a31 = a01 + x0 * v, a11 + x1 * v, a21 + x2 * v, a31 + x3 * v
        v = load(y, i, t, j2)
        a02, a12, a22, a32 = a02 + x0 * v, a12 + x1 * v, a22 + x2 * v, a32 + x3 * v
        v = load(y, i, t, j3)
        a03, a13, a23, a33 = a03 + x0 * v, a13 + x1 * v, a23 + x2 * v, a33 + x3 * v
    _add_totals(out, i, k, m, a00, a01, a02, a03)
    _add_totals(out, i, k + 1, m, a10, a11, a12, a13)
    _add_totals(out, i, k + 2, m, a20, a21, a22, a23)
    _add_totals(out, i, k + 3, m, a30, a31, a32, a33)


@inlined
def _add_four_by_one(out, i, k, m, x, y, j, begin, end):
    a0 = a1 = a2 = a3 = zeros(x)
    for t in range(begin, end):
        v = load(y, i, t, j)
        a0, a1 = a0 + load(x, i, t, k) * v, a1 + load(x, i, t, k + 1) * v
        a2, a3 = a2 + load(x, i, t, k + 2) * v, a3 + load(x, i, t, k + 3) * v
    out[i, k, m] += total(a0)
    out[i, k + 1, m] += total(a1)
    out[i, k + 2, m] += total(a2)
    out[i, k + 3, m] += total(a3)


@inlined
def _add_one_by_four(out, i, k, m, x, y, first, begin, end):
    j0, j1, j2, j3 = _four_of(out, m, first)
    a0 = a1 = a2 = a3 = zeros(x)
    for t in range(begin, end):
        v = load(x, i, t, k)
        a0, a1 = a0 + v * load(y, i, t, j0), a1 + v * load(y, i, t, j1)
        a2, a3 = a2 + v * load(y, i, t, j2), a3 + v * load(y, i, t, j3)
    _add_totals(out, i, k, m, a0, a1, a2, a3)


@inlined
def _add_totals(out, i, k, m, a0, a1, a2, a3):
    out[i, k, m] += total(a0)
    if m + 1 < out.shape[2]:
        out[i, k, m + 1] += total(a1)
    if m + 2 < out.shape[2]:
        out[i, k, m + 2] += total(a2)
    if m + 3 < out.shape[2]:
        out[i, k, m + 3] += total(a3)


@inlined
def add_columns(out, o, m, x, i, begin, end, rows, r):
    """Add the sum of ``x[i, t, k, n] * rows[r, (t - begin) * LANES + n]`` to ``out[o, k, m:]``.

    Parameters
    ----------
    out : (O, K, M)
        LANES columns from m on are changed.
    x : (tiles, T, K, LANES)
    rows : (R, (end - begin) * LANES, LANES)
    """
    K = out.shape[1]
    for k in range(0, K - K % 8, 8):
        _add_eight_by_lanes(out, o, k, m, x, i, begin, end, rows, r)
    for k in range(K - K % 8, K):
        a = zeros(rows)
        for t in range(begin, end):
            for n in range(LANES):
                a = a + lane(x, i, t, k, n) * load(rows, r, (t - begin) * LANES + n, 0)
        store(out, o, k, m, load(out, o, k, m) + a)


@inlined
def _add_eight_by_lanes(out, o, k, m, x, i, begin, end, rows, r):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zeros(rows)
    for t in range(begin, end):
        for n in range(LANES):
            v = load(rows, r, (t - begin) * LANES + n, 0)
            a0 = a0 + lane(x, i, t, k, n) * v
            a1 = a1 + lane(x, i, t, k + 1, n) * v
            a2 = a2 + lane(x, i, t, k + 2, n) * v
            a3 = a3 + lane(x, i, t, k + 3, n) * v
            a4 = a4 + lane(x, i, t, k + 4, n) * v
            a5 = a5 + lane(x, i, t, k + 5, n) * v
            a6 = a6 + lane(x, i, t, k + 6, n) * v
            a7 = a7 + lane(x, i, t, k + 7, n) * v
    store(out, o, k, m, load(out, o, k, m) + a0)
    store(out, o, k + 1, m, load(out, o, k + 1, m) + a1)
    store(out, o, k + 2, m, load(out, o, k + 2, m) + a2)
    store(out, o, k + 3, m, load(out, o, k + 3, m) + a3)
    store(out, o, k + 4, m, load(out, o, k + 4, m) + a4)
    store(out, o, k + 5, m, load(out, o, k + 5, m) + a5)
    store(out, o, k + 6, m, load(out, o, k + 6, m) + a6)
    store(out, o, k + 7, m, load(out, o, k + 7, m) + a7)


@jit
def add_outer_of_gates(out, x, y, low, high, share):
    """Call `add_outer` for gates low to high of y, and of them for the units of one member.

    A member sums over the rows of y that it has computed, which are in the caches of its core.
    Narrow layers have no team, and are faster with all gates at once.
    """
    H, columns = x.shape[2], share.end - share.begin
    if H < LANES:
        columns, high = (high - low) * H, low + 1
    for gate in range(low, high):
        first = gate * H + share.begin
        add_outer(out[:, :, first : first + columns], x, y, first)


@jit
def add_sum(out, y, first):
    """Add the sum over steps and lanes of ``y[i, t, first + m]`` to ``out[i, m]``."""
    T, M = y.shape[1], out.shape[1]
    sums = np.empty((1, 1, M, LANES), y.dtype)
    for i in range(out.shape[0]):
        for begin in range((T - 1) // SPAN * SPAN, -1, -SPAN):
            for m in range(M):
                store(sums, 0, 0, m, zeros(y))
            for t in range(begin, min(begin + SPAN, T)):
                for m in range(M):
                    store(sums, 0, 0, m, load(sums, 0, 0, m) + load(y, i, t, first + m))
            for m in range(M):
                out[i, m] += total(load(sums, 0, 0, m))
