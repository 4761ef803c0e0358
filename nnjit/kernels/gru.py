"""GRU, reset before the recurrent product (Cho et al. 2014, eq. 5 to 8; Keras reset_after=False).

``z, r = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + (r * h') Vg + bg)``,
``h = z * h' + (1 - z) * g``. Gate order in U, V and b: z, r, g.
"""

import numpy as np

from ._jit import jit
from ._lanes import LANES, load, sigmoid, store, tanh
from .product import add_outer, add_product, set_product


@jit
def gru_forward(a, V, h, m):
    """Run T steps.

    Parameters
    ----------
    a : (T, 3H, LANES)
        Input projections ``x U + b``. On return: the gates z, r, g.
    V : (H, 3H)
    h : (T + 1, H, LANES)
        ``h[0]`` is the state before the first step; ``h[1:]`` are written.
    m : (T, H, LANES)
        Its first row is used up.
    """
    H = h.shape[1]
    gates, candidate = V[:, : 2 * H], V[:, 2 * H :]
    for t in range(a.shape[0]):
        add_product(a, t, 0, gates, h, t, sigmoid)
        for j in range(H):
            store(m, 0, j, load(a, t, H + j) * load(h, t, j))
        add_product(a, t, 2 * H, candidate, m, 0, tanh)
        for j in range(H):
            z, g = load(a, t, j), load(a, t, 2 * H + j)
            store(h, t + 1, j, z * load(h, t, j) + (1.0 - z) * g)


@jit
def gru_backward(a, V, h, m, dh, carry):
    """Run the steps backwards.

    Parameters
    ----------
    a : (T, 3H, LANES)
        The gates. On return: the gradient of the input projections.
    V, h
        As in `gru_forward`.
    m : (T, H, LANES)
        Written: ``r * h'``.
    dh : (S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[0]``.
    """
    T, H = a.shape[0], h.shape[1]
    first = T - dh.shape[0]
    gates, candidate = V[:, : 2 * H].T[:, :], V[:, 2 * H :].T[:, :]
    dm = np.empty((1, H, LANES), h.dtype)
    dg = np.empty((1, H, LANES), h.dtype)
    for t in range(T - 1, -1, -1):
        for j in range(H):
            d = load(carry, 0, j)
            if t >= first:
                d = d + load(dh, t - first, j)
            z, g, old = load(a, t, j), load(a, t, 2 * H + j), load(h, t, j)
            store(carry, 0, j, d * z)
            store(a, t, j, d * (old - g) * z * (1.0 - z))
            store(dg, 0, j, d * (1.0 - z) * (1.0 - g * g))
        set_product(dm, 0, 0, candidate, dg, 0)
        for j in range(H):
            r, old, d = load(a, t, H + j), load(h, t, j), load(dm, 0, j)
            store(m, t, j, r * old)
            store(carry, 0, j, load(carry, 0, j) + d * r)
            store(a, t, H + j, d * old * r * (1.0 - r))
            store(a, t, 2 * H + j, load(dg, 0, j))
        add_product(carry, 0, 0, gates, a, t)


@jit
def gru_gradients(a, h, m, dV):
    """Add the gradient of V, (H, 3H), to dV; the rest is as `gru_backward` left it."""
    H = h.shape[1]
    add_outer(dV[:, : 2 * H], h, a, 0)
    add_outer(dV[:, 2 * H :], m, a, 2 * H)
