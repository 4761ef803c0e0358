"""Layers of one unit: the state stays in registers from step to step.

In wider layers a state is written to memory and read again, in one unit's chain of dependent
operations that alone takes longer than the arithmetic.

A cell gives its steps as functions of ``cell``, the tuple of its arrays, a tile i and a step t.
"""

from ._jit import inlined, jit
from ._lanes import load, store, total, zeros
from .product import GRAIN


@inlined
def walk(start, step, cell):
    """Run all steps, two tiles at once: each fills the other's waits.

    Parameters
    ----------
    start : function of (cell, i)
        Returns the state before the first step.
    step : function of (cell, i, t, state)
        Returns the next state.
    cell : tuple of arrays
        The first is (tiles, T, G, LANES).
    """
    tiles, T = cell[0].shape[0], cell[0].shape[1]
    for i in range(0, tiles - 1, 2):
        state, other = start(cell, i), start(cell, i + 1)
        for t in range(T):
            state = step(cell, i, t, state)
            other = step(cell, i + 1, t, other)
    if tiles % 2:
        i = tiles - 1
        state = start(cell, i)
        for t in range(T):
            state = step(cell, i, t, state)


@inlined
def walk_back(step, cell, dh, carry):
    """Run all steps backwards.

    Parameters
    ----------
    step : function of (cell, i, t, d)
        Takes the gradient of the state after step t, returns that of the state before.
    cell
        As in `walk`.
    dh, carry
        As the other backward kernels take them.
    """
    T = cell[0].shape[1]
    first = T - dh.shape[1]
    for i in range(cell[0].shape[0]):
        d = load(carry, i, 0, 0)
        for t in range(T - 1, first - 1, -1):
            d = step(cell, i, t, d + load(dh, i, t - first, 0))
        for t in range(first - 1, -1, -1):
            d = step(cell, i, t, d)
        store(carry, i, 0, 0, d)


@inlined
def first_state(cell, i):
    """Return ``h[i, 0]``, where h comes third in the cell."""
    return load(cell[2], i, 0, 0)


@jit
def add_gate(dV, gate, a, row, x):
    """Add the sum over steps and lanes of ``a[i, t, row] * x[i, t, 0]`` to ``dV[i, 0, gate]``.

    It goes in spans of GRAIN steps, see `product`; x may have more steps than a.
    """
    T = a.shape[1]
    for i in range(a.shape[0]):
        for begin in range((T - 1) // GRAIN * GRAIN, -1, -GRAIN):
            sums = zeros(a)
            for t in range(begin, min(begin + GRAIN, T)):
                sums = sums + load(a, i, t, row) * load(x, i, t, 0)
            dV[i, 0, gate] += total(sums)
