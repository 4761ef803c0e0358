"""LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

``f, i, o = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + h' Vg + bg)``, ``c = f * c' + i * g``,
``h = o * tanh(c)``. Gate order in U, V and b: f, i, o, g.
"""

from ._jit import jit
from ._lanes import load, sigmoid, store, tanh
from .product import add_outer, add_product, set_product


@jit
def lstm_forward(a, V, h, c):
    """Run T steps.

    Parameters
    ----------
    a : (T, 4H, LANES)
        Input projections ``x U + b``. On return: the gates f, i, o, g.
    V : (H, 4H)
    h, c : (T + 1, H, LANES)
        ``h[0]`` and ``c[0]`` are the state before the first step; the rest is written.
    """
    H = h.shape[1]
    gates, candidate = V[:, : 3 * H], V[:, 3 * H :]
    for t in range(a.shape[0]):
        add_product(a, t, 0, gates, h, t, sigmoid)
        add_product(a, t, 3 * H, candidate, h, t, tanh)
        for j in range(H):
            f, i = load(a, t, j), load(a, t, H + j)
            o, g = load(a, t, 2 * H + j), load(a, t, 3 * H + j)
            cell = f * load(c, t, j) + i * g
            store(c, t + 1, j, cell)
            store(h, t + 1, j, o * tanh(cell))


@jit
def lstm_backward(a, V, h, c, dh, carry, carry_c):
    """Run the steps backwards.

    Parameters
    ----------
    a : (T, 4H, LANES)
        The gates. On return: the gradient of the input projections.
    V, h, c
        As in `lstm_forward`.
    dh : (S, H, LANES), S <= T
        Gradient of the last S states.
    carry, carry_c : (1, H, LANES)
        Gradients of the last h and c that come from later steps. On return: of ``h[0]``, ``c[0]``.
    """
    T, H = a.shape[0], h.shape[1]
    first = T - dh.shape[0]
    transposed = V.T[:, :]
    for t in range(T - 1, -1, -1):
        for j in range(H):
            d = load(carry, 0, j)
            if t >= first:
                d = d + load(dh, t - first, j)
            f, i = load(a, t, j), load(a, t, H + j)
            o, g = load(a, t, 2 * H + j), load(a, t, 3 * H + j)
            y = tanh(load(c, t + 1, j))
            dc = load(carry_c, 0, j) + d * o * (1.0 - y * y)
            store(a, t, j, dc * load(c, t, j) * f * (1.0 - f))
            store(a, t, H + j, dc * g * i * (1.0 - i))
            store(a, t, 2 * H + j, d * y * o * (1.0 - o))
            store(a, t, 3 * H + j, dc * i * (1.0 - g * g))
            store(carry_c, 0, j, dc * f)
        set_product(carry, 0, 0, transposed, a, t)


@jit
def lstm_gradients(a, h, c, dV):
    """Add the gradient of V, (H, 4H), to dV; a and h are as `lstm_backward` left them."""
    add_outer(dV[:, :], h, a, 0)
