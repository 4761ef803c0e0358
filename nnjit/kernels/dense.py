"""Dense layers: products with W on vectors, and rows of W on codes.

On codes, ``one_hot(codes) @ W`` looks rows up, without the zeros: row ``t * V + codes[t, n]`` of W,
(T V, units), belongs to step t of lane n. Every kernel takes a range of inputs or steps, begin to
end, so that threads can share a layer: different ranges touch different rows of W.
"""

import numpy as np

from ._jit import jit
from ._lanes import LANES
from .product import add_product, identity, product, set_product

_BLOCK = 128  # inputs at once: their rows of W stay in the first-level cache


@jit
def dense_forward(z, W, x, begin, end):
    """Add ``W[begin:end].T @ x[i, begin:end]`` to ``z[i]``.

    Parameters
    ----------
    z : (tiles, units, LANES)
    W : (D, units)
    x : (tiles, D, LANES)
    """
    for a in range(begin, end, _BLOCK):
        b = min(a + _BLOCK, end)
        for i in range(z.shape[0]):
            add_product(z, i, 0, W[a:b], x[:, a:b], i)


@jit
def dense_backward(dz, dz_turned, W, x, dx, dW, begin, end):
    """Write ``dx[i, begin:end]`` and ``dW[:, begin:end]``.

    Parameters
    ----------
    dz : (tiles, units, LANES)
        Gradient of z.
    dz_turned : (units / LANES, tiles * LANES, LANES)
        The same, with units as lanes.
    W, x
        As in `dense_forward`.
    dx : shape of x
    dW : (units / LANES, D, LANES)
        The gradient of W, with units as lanes; a view will do.
    """
    for i in range(dz.shape[0]):
        set_product(dx, i, begin, W[begin:end].T, dz, i)
        clips = dz_turned[:, i * LANES : (i + 1) * LANES]
        for c in range(dW.shape[0]):
            product(dW, c, begin, x[i, begin:end].T, clips, c, i > 0, identity)


@jit
def add_rows(z, codes, W, levels, begin, end):
    """Add to ``z[n]`` the rows that steps begin to end of lane n select; z is (LANES, units)."""
    for t in range(begin, end):
        for n in range(LANES):
            row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
            for u in range(z.shape[1]):
                z[n, u] += W[row, u]


@jit
def scatter_rows(W, codes, dz, levels, scale, begin, end):
    """Add ``scale * dz[n]`` to the rows that steps begin to end of lane n select."""
    for t in range(begin, end):
        for n in range(LANES):
            row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
            for u in range(dz.shape[1]):
                W[row, u] += scale * dz[n, u]
