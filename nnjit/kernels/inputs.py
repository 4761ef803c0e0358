"""What enters a recurrent layer: input projections, and the gradients of their parameters.

Codes look rows of U up, signals are multiplied by U; the cells never see the difference. Below,
``a`` and its gradient ``da`` are (T, G, LANES) for the G gate rows of a cell, and U is (D, G), with
D = V levels for codes.
"""

import numpy as np

from ._jit import jit
from ._lanes import HAS_PERMUTE, LANES, add_quads, load, lookup, store, transpose, zeros
from .product import GRAIN, add_outer, add_product, add_sum, set_product


def table_of(U, b):
    """Return the table that `project_codes` reads: ``(U + b).T``, at least LANES levels wide."""
    table = np.zeros((1, U.shape[1], max(LANES, U.shape[0])), U.dtype)
    table[0, :, : U.shape[0]] = (U + b).T
    return table


@jit
def project_codes(a, codes, table):
    """Write ``a[t, j] = table[0, j, codes[t]]``; codes are (T, LANES), below V."""
    T, G, V = a.shape[0], a.shape[1], table.shape[2]
    if HAS_PERMUTE and V == LANES:
        for t in range(T):
            for j in range(G):
                store(a, t, j, lookup(load(table, 0, j), codes, t))
    else:
        for t in range(T):
            for j in range(G):
                for n in range(LANES):
                    a[t, j, n] = table[0, j, codes[t, n]]


@jit
def project_codes_backward(da, codes, dU):
    """Add the gradient of U that follows from ``da``; that of b is its sum over the levels."""
    T, G = da.shape[0], da.shape[1]
    wide = G - G % LANES
    rows = np.empty((LANES, LANES), da.dtype)
    for t in range(T - 1, -1, -1):
        for j in range(0, wide, LANES):
            transpose(rows, 0, 0, da, t, j)
            for n in range(LANES):
                store(dU, codes[t, n], j, load(dU, codes[t, n], j) + load(rows, n, 0))
    for j in range(wide, G, 4):
        _add_four_gates(da, codes, dU, j)


@jit
def _add_four_gates(da, codes, dU, j):
    """Add to columns j to j + 4 of dU, in spans of GRAIN steps (see `product`)."""
    T, V = da.shape[0], dU.shape[0]
    gates = min(4, da.shape[1] - j)
    sums = np.empty((LANES, V, 4), da.dtype)
    for begin in range((T - 1) // GRAIN * GRAIN, -1, -GRAIN):
        for n in range(LANES):
            for v in range(V):
                for g in range(4):
                    sums[n, v, g] = 0
        for t in range(begin, min(begin + GRAIN, T)):
            add_quads(sums, codes, t, da, j)
        for n in range(LANES):
            for v in range(V):
                for g in range(gates):
                    dU[v, j + g] += sums[n, v, g]


@jit
def project_signal(a, x, U, b):
    """Write ``a[t] = U.T @ x[t] + b``; x is (T, D, LANES)."""
    weights = U[:, :]
    for t in range(a.shape[0]):
        for j in range(a.shape[1]):
            store(a, t, j, zeros(a) + b[j])
        add_product(a, t, 0, weights, x, t)


@jit
def project_signal_backward(da, x, U, dU, db, dx):
    """Add the gradients of U and b that follow from ``da``, and write that of x.

    An empty dx, (T, 0, LANES), is not asked for: nothing with parameters lies before this layer.
    """
    if dx.shape[1]:
        transposed = U.T[:, :]
        for t in range(da.shape[0]):
            set_product(dx, t, 0, transposed, da, t)
    add_outer(dU[:, :], x, da, 0)
    add_sum(db, da, 0)
