"""GRU, reset before the recurrent product (Cho et al. 2014; Keras reset_after=False).

``z, r = sigmoid(x U + h' V + b)``, ``g = tanh(x Ug + (r * h') Vg + bg)``,
``h = z * h' + (1 - z) * g``. Gate order in U, V and b: z, r, g.
"""

from ._jit import inlined, jit
from ._lanes import load, sigmoid, store, tanh
from .one_unit import add_gate, first_state, walk, walk_back
from .product import add_outer_of_gates, add_product, packed, packed_turned, set_product
from .team import meet


@jit
def gru_forward(a, V, h, m, share):
    """Run T steps.

    Parameters
    ----------
    a : (tiles, T, 3H, LANES)
        Input projections ``x U + b``. On return: the gates z, r, g.
    V : (H, 3H)
    h : (tiles, T + 1, H, LANES)
        ``h[:, 0]`` is the state before the first step; ``h[:, 1:]`` are written.
    m : (tiles, T, H, LANES)
        Its first row is used up.
    share : Share
        Whose units are computed here, see `team`.
    """
    H, begin, end = h.shape[2], share.begin, share.end
    Vz, Vr = packed(V[:, begin:end]), packed(V[:, H + begin : H + end])
    Vg = packed(V[:, 2 * H + begin : 2 * H + end])
    for t in range(a.shape[1]):
        add_product(a, t, begin, end, Vz, h, t, sigmoid)
        add_product(a, t, H + begin, H + end, Vr, h, t, sigmoid)
        for i in range(a.shape[0]):
            for j in range(begin, end):
                store(m, i, 0, j, load(a, i, t, H + j) * load(h, i, t, j))
        meet(share)
        add_product(a, t, 2 * H + begin, 2 * H + end, Vg, m, 0, tanh)
        for i in range(a.shape[0]):
            for j in range(begin, end):
                z, g = load(a, i, t, j), load(a, i, t, 2 * H + j)
                store(h, i, t + 1, j, z * load(h, i, t, j) + (1.0 - z) * g)
        meet(share)


@jit
def gru_backward(a, V, h, m, dh, carry, share):
    """Run the steps backwards.

    Parameters
    ----------
    a : (tiles, T, 3H, LANES)
        The gates. On return: the gradient of the input projections.
    V, h, share
        As in `gru_forward`.
    m : (tiles, T, H, LANES)
        Written: ``r * h'``.
    dh : (tiles, S, H, LANES), S <= T
        Gradient of the last S states.
    carry : (tiles, 1, H, LANES)
        Gradient of the last state that comes from later steps. On return: that of ``h[:, 0]``.
    """
    T, H, begin, end = a.shape[1], h.shape[2], share.begin, share.end
    first = T - dh.shape[1]
    gates = packed_turned(V[begin:end, : 2 * H])
    candidate = packed_turned(V[begin:end, 2 * H :])
    dzr, dg = a[:, :, : 2 * H], a[:, :, 2 * H :]
    for t in range(T - 1, -1, -1):
        for i in range(a.shape[0]):
            for j in range(begin, end):
                d = load(carry, i, 0, j)
                if t >= first:
                    d = d + load(dh, i, t - first, j)
                z, g, old = load(a, i, t, j), load(a, i, t, 2 * H + j), load(h, i, t, j)
                store(carry, i, 0, j, d * z)
                store(a, i, t, j, d * (old - g) * z * (1.0 - z))
                store(a, i, t, 2 * H + j, d * (1.0 - z) * (1.0 - g * g))
        meet(share)
        set_product(m, t, begin, end, candidate, dg, t)
        for i in range(a.shape[0]):
            for j in range(begin, end):
                r, old, d = load(a, i, t, H + j), load(h, i, t, j), load(m, i, t, j)
                store(m, i, t, j, r * old)
                store(carry, i, 0, j, load(carry, i, 0, j) + d * r)
                store(a, i, t, H + j, d * old * r * (1.0 - r))
        meet(share)
        add_product(carry, 0, begin, end, gates, dzr, t)


@inlined
def _step(cell, i, t, old):
    a, V, h = cell
    z = sigmoid(load(a, i, t, 0) + V[0, 0] * old)
    r = sigmoid(load(a, i, t, 1) + V[0, 1] * old)
    g = tanh(load(a, i, t, 2) + r * (V[0, 2] * old))
    y = (1.0 - z) * g + z * old
    store(a, i, t, 0, z)
    store(a, i, t, 1, r)
    store(a, i, t, 2, g)
    store(h, i, t + 1, 0, y)
    return y


@jit
def gru_forward_one(a, V, h, m, share):
    """Do what `gru_forward` does for one unit; m is left alone."""
    walk(first_state, _step, (a, V, h))


@inlined
def _step_back(cell, i, t, d):
    a, V, h, m = cell
    z, r, g, old = load(a, i, t, 0), load(a, i, t, 1), load(a, i, t, 2), load(h, i, t, 0)
    dz = d * ((old - g) * (z * (1.0 - z)))
    dg = d * ((1.0 - z) * (1.0 - g * g))
    dm = V[0, 2] * dg
    dr = dm * (old * (r * (1.0 - r)))
    store(a, i, t, 0, dz)
    store(a, i, t, 1, dr)
    store(a, i, t, 2, dg)
    store(m, i, t, 0, r * old)
    return V[0, 1] * dr + (dm * r + (V[0, 0] * dz + d * z))


@jit
def gru_backward_one(a, V, h, m, dh, carry, share):
    """Do what `gru_backward` does for one unit."""
    walk_back(_step_back, (a, V, h, m), dh, carry)


@jit
def gru_gradients_one(a, h, m, dV, share):
    """Do what `gru_gradients` does for one unit."""
    for gate in range(2):
        add_gate(dV, gate, a, gate, h)
    add_gate(dV, 2, a, 2, m)


@jit
def gru_gradients(a, h, m, dV, share):
    """Add the gradient of V, (tiles, H, 3H), to dV; the rest is as `gru_backward` left it."""
    add_outer_of_gates(dV, h, a, 0, 2, share)
    add_outer_of_gates(dV, m, a, 2, 3, share)
