"""Elman RNN: ``h = tanh(x U + h' V + b)`` (Elman 1990)."""

from ._jit import inlined, jit
from ._lanes import load, store, tanh
from .one_unit import add_gate, first_state, walk, walk_back
from .product import add_outer_of_gates, add_product, packed, packed_turned, set_product
from .team import meet


@jit
def rnn_forward(a, V, h, share):
    """Run T steps.

    Parameters
    ----------
    a : (tiles, T, H, LANES)
        Input projections ``x U + b``. On return: the same plus ``h' V``.
    V : (H, H)
    h : (tiles, T + 1, H, LANES)
        ``h[:, 0]`` is the state before the first step; ``h[:, 1:]`` are written.
    share : Share
        Whose units are computed here, see `team`.
    """
    begin, end = share.begin, share.end
    weights = packed(V[:, begin:end])
    for t in range(a.shape[1]):
        add_product(a, t, begin, end, weights, h, t)
        for i in range(a.shape[0]):
            for j in range(begin, end):
                store(h, i, t + 1, j, tanh(load(a, i, t, j)))
        meet(share)


@jit
def rnn_backward(a, V, h, dh, carry, share):
    """Run the steps backwards.

    Parameters
    ----------
    a : (tiles, T, H, LANES)
        As `rnn_forward` left it. On return: the gradient of the input projections.
    V, h, share
        As in `rnn_forward`.
    dh : (tiles, S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (tiles, 1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[:, 0]``.
    """
    T, begin, end = a.shape[1], share.begin, share.end
    first = T - dh.shape[1]
    turned = packed_turned(V[begin:end])
    for t in range(T - 1, -1, -1):
        for i in range(a.shape[0]):
            for j in range(begin, end):
                d = load(carry, i, 0, j)
                if t >= first:
                    d = d + load(dh, i, t - first, j)
                y = load(h, i, t + 1, j)
                store(a, i, t, j, d * (1.0 - y * y))
        meet(share)
        set_product(carry, 0, begin, end, turned, a, t)


@inlined
def _step(cell, i, t, old):
    a, V, h = cell
    y = tanh(load(a, i, t, 0) + V[0, 0] * old)
    store(h, i, t + 1, 0, y)
    return y


@jit
def rnn_forward_one(a, V, h, share):
    """Do what `rnn_forward` does for one unit; ``a`` stays."""
    walk(first_state, _step, (a, V, h))


@inlined
def _step_back(cell, i, t, d):
    a, V, h = cell
    y = load(h, i, t + 1, 0)
    da = d * (1.0 - y * y)
    store(a, i, t, 0, da)
    return V[0, 0] * da


@jit
def rnn_backward_one(a, V, h, dh, carry, share):
    """Do what `rnn_backward` does for one unit."""
    walk_back(_step_back, (a, V, h), dh, carry)


@jit
def rnn_gradients_one(a, h, dV, share):
    """Do what `rnn_gradients` does for one unit."""
    add_gate(dV, 0, a, 0, h)


@jit
def rnn_gradients(a, h, dV, share):
    """Add the gradient of V, (tiles, H, H), to dV; the rest is as `rnn_backward` left it."""
    add_outer_of_gates(dV, h, a, 0, 1, share)
