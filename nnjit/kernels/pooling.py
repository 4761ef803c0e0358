"""Pooling over steps, clips as lanes.

Every kernel takes a range, begin to end, of the features of all tiles, so that threads can share a
layer: feature ``item % D`` of tile ``item // D``. ``left``, (tiles, 1, 1, LANES), holds the steps
of each clip, in the dtype of the signal; what lies behind them is not seen.
"""

from ._jit import jit
from ._lanes import load, maximum, select, step, store, zeros, zeros_like
from .product import SPAN


@jit
def mean_over_steps(y, x, left, begin, end):
    """Write the mean over the steps of each clip.

    Parameters
    ----------
    y : (tiles, 1, D, LANES)
    x : (tiles, T, D, LANES)
    """
    T, D = x.shape[1], x.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        total = zeros(x)
        for first in range(0, T, SPAN):  # sums of sums: long clips lose less to rounding
            some = zeros(x)
            for t in range(first, min(first + SPAN, T)):
                v = load(x, i, t, d)
                some = some + select(steps, t, v, zeros_like(v))
            total = total + some
        store(y, i, 0, d, total / steps)


@jit
def mean_over_steps_backward(dx, dy, left, begin, end):
    """Write the gradient of x, 0 behind the end of a clip; shapes as in `mean_over_steps`."""
    T, D = dx.shape[1], dx.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        share = load(dy, i, 0, d) / steps
        for t in range(T):
            store(dx, i, t, d, select(steps, t, share, zeros_like(share)))


@jit
def max_over_steps(y, places, x, left, begin, end):
    """Write the largest value of each clip, and the first step where it stands.

    Parameters
    ----------
    y, places : (tiles, 1, D, LANES)
        Steps are whole numbers in the dtype of x.
    x : (tiles, T, D, LANES)
    """
    T, D = x.shape[1], x.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        best, place = load(x, i, 0, d), zeros(x)
        for t in range(1, T):
            v = select(steps, t, load(x, i, t, d), best)
            place = place + step(v - best) * (zeros(x) + t - place)
            best = maximum(best, v)
        store(y, i, 0, d, best)
        store(places, i, 0, d, place)
