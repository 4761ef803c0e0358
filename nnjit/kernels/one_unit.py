"""The gradient of a layer of one unit, whose recurrent weights are a number for each gate."""

from ._jit import jit
from ._lanes import load, total, zeros
from .product import GRAIN


@jit
def add_gate(dV, gate, a, row, x):
    """Add the sum over steps and lanes of ``a[i, t, row] * x[i, t, 0]`` to ``dV[i, 0, gate]``.

    The sum is taken in spans of GRAIN steps, see `product`; x may have more steps than a.
    """
    T = a.shape[1]
    for i in range(a.shape[0]):
        for begin in range((T - 1) // GRAIN * GRAIN, -1, -GRAIN):
            sums = zeros(a)
            for t in range(begin, min(begin + GRAIN, T)):
                sums = sums + load(a, i, t, row) * load(x, i, t, 0)
            dV[i, 0, gate] += total(sums)
