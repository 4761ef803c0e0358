"""Dense layers: products with W on vectors, and rows of W on codes.

On codes, ``one_hot(codes) @ W`` is a look-up of rows: row ``t * V + codes[t, n]`` of W, (T V,
units), belongs to step t of lane n. Every kernel takes a range of inputs or steps, begin to end, or
parts of them, so that threads can share a layer: each reads or writes other rows of W.
"""

import numpy as np

from ._jit import jit
from ._lanes import LANES
from .product import add_columns, at, at_transposed, identity, product

BLOCK = 64  # inputs in one product: their rows of W fit the first-level cache


@jit
def dense_forward(z, W, x, edges, first, last):
    """Add ``W[a:b].T @ x[:, 0, a:b]`` to ``z[p]`` for parts p, first to last, of the inputs.

    Parameters
    ----------
    z : (parts, tiles, 1, units, LANES)
    W : (D, units)
    x : (tiles, 1, D, LANES)
    edges : (parts + 1,)
        Part p is the inputs from a, its edge, to b, the next one.
    """
    units = z.shape[3]
    for p in range(first, last):
        for a in range(edges[p], edges[p + 1], BLOCK):
            b = min(a + BLOCK, edges[p + 1])
            product(z[p], 0, 0, units, W[a:b], x[:, :, a:b], 0, True, identity, at)


@jit
def dense_backward(dz, W, dx, begin, end):
    """Write ``dx[:, 0, begin:end]``.

    Parameters
    ----------
    dz : (tiles, 1, units, LANES)
    W, dx
        As W and x of `dense_forward`.
    """
    product(dx, 0, begin, end, W[begin:end], dz, 0, False, identity, at_transposed)


@jit
def dense_gradient(dW, dz, x, begin, end):
    """Add the gradient of rows begin to end of W.

    Parameters
    ----------
    dW : (1, D, units)
    dz : (units / LANES, tiles * LANES, LANES)
        The gradient of z, with units as lanes.
    x : (tiles, 1, D, LANES)
    """
    out, inputs = dW[:, begin:end], x[:, :, begin:end]
    for i in range(x.shape[0]):
        clips = dz[:, i * LANES : (i + 1) * LANES]
        for c in range(dz.shape[0]):
            add_columns(out, 0, c * LANES, inputs, i, 0, 1, clips, c)


@jit
def add_rows(z, codes, W, levels, edges):
    """Add to ``z[p, n]`` the rows that the steps of part p of lane n select.

    Parameters
    ----------
    z : (parts, LANES, units)
    codes : (T, LANES)
    edges : (parts + 1,)
        As in `dense_forward`.
    """
    for p in range(z.shape[0]):
        for t in range(edges[p], edges[p + 1]):
            for n in range(LANES):
                row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
                for u in range(z.shape[2]):
                    z[p, n, u] += W[row, u]


@jit
def scatter_rows(W, codes, dz, levels, scale, begin, end):
    """Add ``scale * dz[n]`` to the rows that steps begin to end of lane n select."""
    for t in range(begin, end):
        for n in range(LANES):
            row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
            for u in range(dz.shape[1]):
                W[row, u] += scale * dz[n, u]
