"""Elman RNN: ``h = tanh(x U + h' V + b)`` (Elman 1990)."""

from ._jit import jit
from ._lanes import load, store, tanh
from .product import add_outer, add_product, set_product


@jit
def rnn_forward(a, V, h):
    """Run T steps.

    Parameters
    ----------
    a : (T, H, LANES)
        Input projections ``x U + b``. On return: the same plus ``h' V``.
    V : (H, H)
    h : (T + 1, H, LANES)
        ``h[0]`` is the state before the first step; ``h[1:]`` are written.
    """
    H = h.shape[1]
    weights = V[:, :]
    for t in range(a.shape[0]):
        add_product(a, t, 0, weights, h, t)
        for j in range(H):
            store(h, t + 1, j, tanh(load(a, t, j)))


@jit
def rnn_backward(a, V, h, dh, carry):
    """Run the steps backwards.

    Parameters
    ----------
    a : (T, H, LANES)
        As `rnn_forward` left it. On return: the gradient of the input projections.
    V, h
        As in `rnn_forward`.
    dh : (S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[0]``.
    """
    T, H = a.shape[0], h.shape[1]
    first = T - dh.shape[0]
    transposed = V.T[:, :]
    for t in range(T - 1, -1, -1):
        for j in range(H):
            d = load(carry, 0, j)
            if t >= first:
                d = d + load(dh, t - first, j)
            y = load(h, t + 1, j)
            store(a, t, j, d * (1.0 - y * y))
        set_product(carry, 0, 0, transposed, a, t)


@jit
def rnn_gradients(a, h, dV):
    """Add the gradient of V, (H, H), to dV; a and h are as `rnn_backward` left them."""
    add_outer(dV[:, :], h, a, 0)
