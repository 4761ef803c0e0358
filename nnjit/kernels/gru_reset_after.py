"""GRU, reset after the recurrent product (cuDNN, torch.nn.GRU; Keras reset_after=True).

``z, r = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + bg + r * (h' Vg + c))``,
``h = z * h' + (1 - z) * g``. Gate order in U, V and b: z, r, g; c is the second bias of g.
"""

from ._jit import jit
from ._lanes import load, sigmoid, store, tanh, zeros
from .product import add_outer, add_product, add_sum


@jit
def gru_reset_after_forward(a, V, c, h, q):
    """Run T steps.

    Parameters
    ----------
    a : (T, 3H, LANES)
        Input projections ``x U + b``. On return: the gates z, r, g.
    V : (H, 3H)
    c : (H,)
    h : (T + 1, H, LANES)
        ``h[0]`` is the state before the first step; ``h[1:]`` are written.
    q : (T, H, LANES)
        Written: the recurrent part of the candidate, ``h' Vg + c``.
    """
    H = h.shape[1]
    gates, candidate = V[:, : 2 * H], V[:, 2 * H :]
    for t in range(a.shape[0]):
        for j in range(H):
            store(q, t, j, zeros(h) + c[j])
        add_product(a, t, 0, gates, h, t)
        add_product(q, t, 0, candidate, h, t)
        for j in range(H):
            z, r = sigmoid(load(a, t, j)), sigmoid(load(a, t, H + j))
            g = tanh(load(a, t, 2 * H + j) + r * load(q, t, j))
            store(a, t, j, z)
            store(a, t, H + j, r)
            store(a, t, 2 * H + j, g)
            store(h, t + 1, j, z * load(h, t, j) + (1.0 - z) * g)


@jit
def gru_reset_after_backward(a, V, c, h, q, dh, carry):
    """Run the steps backwards.

    Parameters
    ----------
    a : (T, 3H, LANES)
        The gates. On return: the gradient of the input projections.
    V, c, h
        As in `gru_reset_after_forward`.
    q : (T, H, LANES)
        As the forward pass left it. On return: its gradient.
    dh : (S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[0]``.
    """
    T, H = a.shape[0], h.shape[1]
    first = T - dh.shape[0]
    gates, candidate = V[:, : 2 * H].T[:, :], V[:, 2 * H :].T[:, :]
    for t in range(T - 1, -1, -1):
        for j in range(H):
            d = load(carry, 0, j)
            if t >= first:
                d = d + load(dh, t - first, j)
            z, r, g = load(a, t, j), load(a, t, H + j), load(a, t, 2 * H + j)
            dg = d * (1.0 - z) * (1.0 - g * g)
            store(carry, 0, j, d * z)
            store(a, t, j, d * (load(h, t, j) - g) * z * (1.0 - z))
            store(a, t, H + j, dg * load(q, t, j) * r * (1.0 - r))
            store(a, t, 2 * H + j, dg)
            store(q, t, j, dg * r)
        add_product(carry, 0, 0, gates, a, t)
        add_product(carry, 0, 0, candidate, q, t)


@jit
def gru_reset_after_gradients(a, h, q, dV, dc):
    """Add the gradients of V, (H, 3H), and c, (H,); the rest is as the backward pass left it."""
    H = h.shape[1]
    add_outer(dV[:, : 2 * H], h, a, 0)
    add_outer(dV[:, 2 * H :], h, q, 0)
    add_sum(dc, q, 0)
