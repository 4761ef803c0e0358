"""What enters a recurrent layer: input projections, and the gradients of their parameters.

Codes look rows of U up, signals are multiplied by U; the cells never see the difference. Below,
``a`` and its gradient ``da`` are (T, G, LANES) for the G gate rows of a cell, and U is (D, G), with
D = V levels for codes.
"""

from ._jit import jit
from ._lanes import LANES, store, zeros
from .product import add_outer, add_product, add_sum


@jit
def project_codes(a, codes, U, b):
    """Write ``a[t, j] = U[codes[t], j] + b[j]``; codes are (T, LANES), below V."""
    table = (U + b).T.copy()
    for t in range(a.shape[0]):
        for j in range(a.shape[1]):
            for n in range(LANES):
                a[t, j, n] = table[j, codes[t, n]]


@jit
def project_codes_backward(da, codes, U, dU, db, dx):
    """Add the gradients of U and b that follow from ``da``; codes have none, dx is not touched."""
    table = dU.T.copy()
    for t in range(da.shape[0] - 1, -1, -1):
        for j in range(da.shape[1]):
            for n in range(LANES):
                table[j, codes[t, n]] += da[t, j, n]
    dU[:] = table.T
    add_sum(db, da, 0)


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
    """Add the gradients of U and b that follow from ``da``, and write that of x."""
    transposed = U.T[:, :]
    for t in range(da.shape[0]):
        for d in range(dx.shape[1]):
            store(dx, t, d, zeros(dx))
        add_product(dx, t, 0, transposed, da, t)
    add_outer(dU[:, :], x, da, 0)
    add_sum(db, da, 0)
