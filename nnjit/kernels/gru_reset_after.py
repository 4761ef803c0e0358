"""GRU, reset after the recurrent product (cuDNN, torch.nn.GRU; Keras reset_after=True).

``z, r = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + bg + r * (h' Vg + c))``,
``h = z * h' + (1 - z) * g``. Gate order in U, V and b: z, r, g; c is the second bias of g.
"""

from ._jit import inlined, jit
from ._lanes import load, sigmoid, store, tanh, zeros
from .one_unit import add_gate, first_state, walk, walk_back
from .product import add_outer_of_gates, add_product, add_sum, packed, packed_turned
from .team import meet


@jit
def gru_reset_after_forward(a, V, c, h, q, share):
    """Run T steps.

    Parameters
    ----------
    a : (tiles, T, 3H, LANES)
        Input projections ``x U + b``. On return: the gates z, r, g.
    V : (H, 3H)
    c : (H,)
    h : (tiles, T + 1, H, LANES)
        ``h[:, 0]`` is the state before the first step; ``h[:, 1:]`` are written.
    q : (tiles, T, H, LANES)
        Written: the recurrent part of the candidate, ``h' Vg + c``.
    share : Share
        Whose units are computed here, see `team`.
    """
    H, begin, end = h.shape[2], share.begin, share.end
    Vz, Vr = packed(V[:, begin:end]), packed(V[:, H + begin : H + end])
    Vg = packed(V[:, 2 * H + begin : 2 * H + end])
    for t in range(a.shape[1]):
        for i in range(a.shape[0]):
            for j in range(begin, end):
                store(q, i, t, j, zeros(h) + c[j])
        add_product(a, t, begin, end, Vz, h, t, sigmoid)
        add_product(a, t, H + begin, H + end, Vr, h, t, sigmoid)
        add_product(q, t, begin, end, Vg, h, t)
        for i in range(a.shape[0]):
            for j in range(begin, end):
                z, r = load(a, i, t, j), load(a, i, t, H + j)
                g = tanh(load(a, i, t, 2 * H + j) + r * load(q, i, t, j))
                store(a, i, t, 2 * H + j, g)
                store(h, i, t + 1, j, z * load(h, i, t, j) + (1.0 - z) * g)
        meet(share)


@jit
def gru_reset_after_backward(a, V, c, h, q, dh, carry, share):
    """Run the steps backwards.

    Parameters
    ----------
    a : (tiles, T, 3H, LANES)
        The gates. On return: the gradient of the input projections.
    V, c, h, share
        As in `gru_reset_after_forward`.
    q : (tiles, T, H, LANES)
        As the forward pass left it. On return: its gradient.
    dh : (tiles, S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (tiles, 1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[:, 0]``.
    """
    T, H, begin, end = a.shape[1], h.shape[2], share.begin, share.end
    first = T - dh.shape[1]
    gates = packed_turned(V[begin:end, : 2 * H])
    candidate = packed_turned(V[begin:end, 2 * H :])
    dzr = a[:, :, : 2 * H]
    for t in range(T - 1, -1, -1):
        for i in range(a.shape[0]):
            for j in range(begin, end):
                d = load(carry, i, 0, j)
                if t >= first:
                    d = d + load(dh, i, t - first, j)
                z, r, g = load(a, i, t, j), load(a, i, t, H + j), load(a, i, t, 2 * H + j)
                dg = d * (1.0 - z) * (1.0 - g * g)
                store(carry, i, 0, j, d * z)
                store(a, i, t, j, d * (load(h, i, t, j) - g) * z * (1.0 - z))
                store(a, i, t, H + j, dg * load(q, i, t, j) * r * (1.0 - r))
                store(a, i, t, 2 * H + j, dg)
                store(q, i, t, j, dg * r)
        meet(share)
        add_product(carry, 0, begin, end, gates, dzr, t)
        add_product(carry, 0, begin, end, candidate, q, t)


@inlined
def _step(cell, i, t, old):
    a, V, h, c, q = cell
    z = sigmoid(load(a, i, t, 0) + V[0, 0] * old)
    r = sigmoid(load(a, i, t, 1) + V[0, 1] * old)
    recurrent = V[0, 2] * old + c[0]
    g = tanh(load(a, i, t, 2) + r * recurrent)
    y = (1.0 - z) * g + z * old
    store(a, i, t, 0, z)
    store(a, i, t, 1, r)
    store(a, i, t, 2, g)
    store(q, i, t, 0, recurrent)
    store(h, i, t + 1, 0, y)
    return y


@jit
def gru_reset_after_forward_one(a, V, c, h, q, share):
    """Do what `gru_reset_after_forward` does for one unit."""
    walk(first_state, _step, (a, V, h, c, q))


@inlined
def _step_back(cell, i, t, d):
    a, V, h, q = cell
    z, r, g, old = load(a, i, t, 0), load(a, i, t, 1), load(a, i, t, 2), load(h, i, t, 0)
    dz = d * ((old - g) * (z * (1.0 - z)))
    dg = d * ((1.0 - z) * (1.0 - g * g))
    dr = dg * (load(q, i, t, 0) * (r * (1.0 - r)))
    dq = dg * r
    store(a, i, t, 0, dz)
    store(a, i, t, 1, dr)
    store(a, i, t, 2, dg)
    store(q, i, t, 0, dq)
    return V[0, 2] * dq + (V[0, 1] * dr + (V[0, 0] * dz + d * z))


@jit
def gru_reset_after_backward_one(a, V, c, h, q, dh, carry, share):
    """Do what `gru_reset_after_backward` does for one unit."""
    walk_back(_step_back, (a, V, h, q), dh, carry)


@jit
def gru_reset_after_gradients_one(a, h, q, dV, dc, share):
    """Do what `gru_reset_after_gradients` does for one unit."""
    for gate in range(2):
        add_gate(dV, gate, a, gate, h)
    add_gate(dV, 2, q, 0, h)
    add_sum(dc, q, 0)


@jit
def gru_reset_after_gradients(a, h, q, dV, dc, share):
    """Add the gradients of V, (tiles, H, 3H), and c, (tiles, H).

    The rest is as `gru_reset_after_backward` left it.
    """
    H, begin, end = h.shape[2], share.begin, share.end
    add_outer_of_gates(dV, h, a, 0, 2, share)
    add_outer_of_gates(dV[:, :, 2 * H :], h, q, 0, 1, share)
    add_sum(dc[:, begin:end], q, begin)
