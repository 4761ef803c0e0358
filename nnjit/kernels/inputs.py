"""Input projections of recurrent layers, and the gradients of their parameters.

For codes, rows of U are looked up; signals are multiplied by U. The result has the same form, so
cells do not depend on the kind of input. Below, ``a`` and its gradient ``da`` are (tiles, T, G,
LANES) for the G gate rows of a cell, and U is (D, G), with D = V levels for codes.
"""

import numpy as np

from ._jit import inlined, jit
from ._lanes import HAS_PERMUTE, LANES, add_by_code, add_quads, load, lookup, store, weight, zeros
from .product import GRAIN, add_outer, add_product, add_sum, packed, packed_transposed, set_product


@jit
def project_codes(a, codes, U, b):
    """Write ``a[i, t, j] = U[codes[i, t], j] + b[j]``; codes are (tiles, T, LANES), below V."""
    T, G, V = a.shape[1], a.shape[2], max(LANES, U.shape[0])
    table = np.zeros((1, 1, G, V), a.dtype)
    for v in range(U.shape[0]):
        for j in range(G):
            table[0, 0, j, v] = U[v, j] + b[j]
    for i in range(a.shape[0]):
        if HAS_PERMUTE and V == LANES:
            for t in range(T):
                for j in range(G):
                    store(a, i, t, j, lookup(load(table, 0, 0, j), codes, i, t))
        else:
            for t in range(T):
                for j in range(G):
                    for n in range(LANES):
                        a[i, t, j, n] = table[0, 0, j, codes[i, t, n]]


@jit
def project_codes_backward(da, codes, dU):
    """Add the gradient of U, one for each tile, given ``da``; that of b is its sum over V."""
    T, G = da.shape[1], da.shape[2]
    wide = G - G % LANES
    for i in range(da.shape[0]):
        for t in range(T - 1, -1, -1):
            for j in range(0, wide, LANES):
                add_by_code(dU, codes, i, t, da, j)
        for j in range(wide, G, 4):
            _add_four_gates(da, codes, dU, i, j)


@jit
def _add_four_gates(da, codes, dU, i, j):
    """Add to columns j to j + 4 of dU[i], in spans of GRAIN steps (see `product`)."""
    T, V = da.shape[1], dU.shape[1]
    gates = min(4, da.shape[2] - j)
    sums = np.empty((1, V, 4, LANES), da.dtype)  # four sums for each level and lane
    for begin in range((T - 1) // GRAIN * GRAIN, -1, -GRAIN):
        for v in range(V):
            for r in range(4):
                store(sums, 0, v, r, zeros(da))
        for t in range(begin, min(begin + GRAIN, T)):
            add_quads(sums, codes, i, t, da, j)
        for v in range(V):
            low = load(sums, 0, v, 0) + load(sums, 0, v, 1)
            store(sums, 0, v, 0, low + (load(sums, 0, v, 2) + load(sums, 0, v, 3)))
            for g in range(gates):
                low = sums[0, v, 0, g] + sums[0, v, 0, 4 + g]
                dU[i, v, j + g] += low + (sums[0, v, 0, 8 + g] + sums[0, v, 0, 12 + g])


@jit
def project_signal(a, x, U, b):
    """Write ``a[:, t] = U.T @ x[:, t] + b``; x is (tiles, T, D, LANES), b is (G,)."""
    G = a.shape[2]
    if G < 8:  # a block of `product` has 8 rows
        for i in range(a.shape[0]):
            for t in range(0, a.shape[1], 4):
                for j in range(0, G, 2):
                    _project_two_rows(a, x, U, b, i, j, t)
        return
    weights = packed(U)
    for t in range(a.shape[1]):
        for i in range(a.shape[0]):
            for j in range(G):
                store(a, i, t, j, zeros(a) + b[j])
        add_product(a, t, 0, G, weights, x, t)


@inlined
def _project_two_rows(a, x, U, b, i, j, t):
    """Write rows j and j + 1 of steps t to t + 4.

    An index beyond the last row or step is replaced by the last: it is then written twice.
    """
    last, j1 = a.shape[1] - 1, min(j + 1, a.shape[2] - 1)
    t1, t2, t3 = min(t + 1, last), min(t + 2, last), min(t + 3, last)
    a0 = a1 = a2 = a3 = zeros(a) + b[j]
    b0 = b1 = b2 = b3 = zeros(a) + b[j1]
    for k in range(x.shape[2]):
        u, v = weight(U, k, j), weight(U, k, j1)
        x0, x1, x2, x3 = load(x, i, t, k), load(x, i, t1, k), load(x, i, t2, k), load(x, i, t3, k)
        a0, a1, a2, a3 = a0 + u * x0, a1 + u * x1, a2 + u * x2, a3 + u * x3
        b0, b1, b2, b3 = b0 + v * x0, b1 + v * x1, b2 + v * x2, b3 + v * x3
    _store_four(a, i, j, t, t1, t2, t3, a0, a1, a2, a3)
    _store_four(a, i, j1, t, t1, t2, t3, b0, b1, b2, b3)


@inlined
def _store_four(a, i, j, t, t1, t2, t3, a0, a1, a2, a3):
    store(a, i, t, j, a0)
    store(a, i, t1, j, a1)
    store(a, i, t2, j, a2)
    store(a, i, t3, j, a3)


@jit
def project_signal_backward(da, U, dx):
    """Write the gradient of x, given ``da``."""
    transposed = packed_transposed(U)
    for t in range(da.shape[1]):
        set_product(dx, t, 0, dx.shape[2], transposed, da, t)


@jit
def project_signal_gradients(da, x, dU, db, first):
    """Add the gradients of the gates from ``first`` on to dU and db, one for each tile."""
    add_outer(dU, x, da, first)
    add_sum(db, da, first)
