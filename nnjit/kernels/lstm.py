"""LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

``f, i, o = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + h' Vg + bg)``, ``c = f * c' + i * g``,
``h = o * tanh(c)``. Gate order in U, V and b: f, i, o, g.
"""

from ._jit import inlined, jit
from ._lanes import load, sigmoid, store, tanh
from .one_unit import add_gate, walk, walk_back
from .product import add_outer_of_gates, add_product, packed, packed_turned, set_product
from .team import meet


@jit
def lstm_forward(a, V, h, c, share):
    """Run T steps.

    Parameters
    ----------
    a : (tiles, T, 4H, LANES)
        Input projections ``x U + b``. On return: the gates f, i, o, g.
    V : (H, 4H)
    h, c : (tiles, T + 1, H, LANES)
        ``h[:, 0]`` and ``c[:, 0]`` are the state before the first step; the rest is written.
    share : Share
        Whose units are computed here, see `team`.
    """
    H, begin, end = h.shape[2], share.begin, share.end
    Vf, Vi = packed(V[:, begin:end]), packed(V[:, H + begin : H + end])
    Vo = packed(V[:, 2 * H + begin : 2 * H + end])
    Vg = packed(V[:, 3 * H + begin : 3 * H + end])
    for t in range(a.shape[1]):
        add_product(a, t, begin, end, Vf, h, t, sigmoid)
        add_product(a, t, H + begin, H + end, Vi, h, t, sigmoid)
        add_product(a, t, 2 * H + begin, 2 * H + end, Vo, h, t, sigmoid)
        add_product(a, t, 3 * H + begin, 3 * H + end, Vg, h, t, tanh)
        for k in range(a.shape[0]):
            for j in range(begin, end):
                f, i = load(a, k, t, j), load(a, k, t, H + j)
                o, g = load(a, k, t, 2 * H + j), load(a, k, t, 3 * H + j)
                cell = f * load(c, k, t, j) + i * g
                store(c, k, t + 1, j, cell)
                store(h, k, t + 1, j, o * tanh(cell))
        meet(share)


@jit
def lstm_backward(a, V, h, c, dh, carry, carry_c, share):
    """Run the steps backwards.

    Parameters
    ----------
    a : (tiles, T, 4H, LANES)
        The gates. On return: the gradient of the input projections.
    V, h, c, share
        As in `lstm_forward`.
    dh : (tiles, S, H, LANES), S <= T
        Gradient of the last S states.
    carry, carry_c : (tiles, 1, H, LANES)
        Gradients of the last h and c that come from later steps. On return: of ``h[:, 0]`` and
        ``c[:, 0]``.
    """
    T, H, begin, end = a.shape[1], h.shape[2], share.begin, share.end
    first = T - dh.shape[1]
    turned = packed_turned(V[begin:end])
    for t in range(T - 1, -1, -1):
        for k in range(a.shape[0]):
            for j in range(begin, end):
                d = load(carry, k, 0, j)
                if t >= first:
                    d = d + load(dh, k, t - first, j)
                f, i = load(a, k, t, j), load(a, k, t, H + j)
                o, g = load(a, k, t, 2 * H + j), load(a, k, t, 3 * H + j)
                y = tanh(load(c, k, t + 1, j))
                dc = load(carry_c, k, 0, j) + d * o * (1.0 - y * y)
                store(a, k, t, j, dc * load(c, k, t, j) * f * (1.0 - f))
                store(a, k, t, H + j, dc * g * i * (1.0 - i))
                store(a, k, t, 2 * H + j, d * y * o * (1.0 - o))
                store(a, k, t, 3 * H + j, dc * i * (1.0 - g * g))
                store(carry_c, k, 0, j, dc * f)
        meet(share)
        set_product(carry, 0, begin, end, turned, a, t)


@inlined
def _start(cell, i):
    return load(cell[2], i, 0, 0), load(cell[3], i, 0, 0)


@inlined
def _step(cell, k, t, state):
    a, V, h, c = cell
    old, old_cell = state
    f = sigmoid(load(a, k, t, 0) + V[0, 0] * old)
    i = sigmoid(load(a, k, t, 1) + V[0, 1] * old)
    o = sigmoid(load(a, k, t, 2) + V[0, 2] * old)
    g = tanh(load(a, k, t, 3) + V[0, 3] * old)
    cell_state = f * old_cell + i * g
    y = o * tanh(cell_state)
    store(a, k, t, 0, f)
    store(a, k, t, 1, i)
    store(a, k, t, 2, o)
    store(a, k, t, 3, g)
    store(c, k, t + 1, 0, cell_state)
    store(h, k, t + 1, 0, y)
    return y, cell_state


@jit
def lstm_forward_one(a, V, h, c, share):
    """Do what `lstm_forward` does for one unit."""
    walk(_start, _step, (a, V, h, c))


@inlined
def _step_back(cell, k, t, d):
    a, V, c, carry_c = cell
    f, i, o, g = load(a, k, t, 0), load(a, k, t, 1), load(a, k, t, 2), load(a, k, t, 3)
    y = tanh(load(c, k, t + 1, 0))
    dc = load(carry_c, k, 0, 0) + d * (o * (1.0 - y * y))
    df = dc * (load(c, k, t, 0) * (f * (1.0 - f)))
    di = dc * (g * (i * (1.0 - i)))
    do = d * (y * (o * (1.0 - o)))
    dg = dc * (i * (1.0 - g * g))
    store(carry_c, k, 0, 0, dc * f)
    store(a, k, t, 0, df)
    store(a, k, t, 1, di)
    store(a, k, t, 2, do)
    store(a, k, t, 3, dg)
    return (V[0, 0] * df + V[0, 1] * di) + (V[0, 2] * do + V[0, 3] * dg)


@jit
def lstm_backward_one(a, V, h, c, dh, carry, carry_c, share):
    """Do what `lstm_backward` does for one unit."""
    walk_back(_step_back, (a, V, c, carry_c), dh, carry)


@jit
def lstm_gradients_one(a, h, c, dV, share):
    """Do what `lstm_gradients` does for one unit."""
    for gate in range(4):
        add_gate(dV, gate, a, gate, h)


@jit
def lstm_gradients(a, h, c, dV, share):
    """Add the gradient of V, (tiles, H, 4H), to dV; the rest is as `lstm_backward` left it."""
    add_outer_of_gates(dV, h, a, 0, 4, share)
