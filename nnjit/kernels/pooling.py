"""Pooling over steps, clips as lanes.

Every kernel takes a range, begin to end, of the features of all tiles, so that threads can share a
layer: feature ``item % D`` of tile ``item // D``. ``left``, (tiles, 1, 1, LANES), holds the steps
of each clip, in the dtype of the signal; what lies behind them is not seen.
"""

from ._jit import inlined, jit
from ._lanes import LANES, load, maximum, select, step, store, zeros, zeros_like
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


@inlined
def _ends(x, window, size, stride, before):
    """Return the first step of a window, and the one behind its last."""
    first = window * stride - before
    return max(first, 0), min(first + size, x.shape[1])


@inlined
def _steps_seen(steps, first, last):
    """Return how many steps of a window each clip has, at least 1."""
    seen = zeros_like(steps)
    for t in range(first, last):
        seen = seen + select(steps, t, zeros_like(steps) + 1.0, zeros_like(steps))
    return maximum(seen, zeros_like(steps) + 1.0)


@jit
def average_pooling(y, x, left, size, stride, before, begin, end):
    """Write the mean of each window, of the steps that a clip has there.

    Parameters
    ----------
    y : (tiles, windows, D, LANES)
    x : (tiles, T, D, LANES)
    size, stride, before
        Steps of a window, from one to the next, and before the signal.
    """
    D = x.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        for window in range(y.shape[1]):
            first, last = _ends(x, window, size, stride, before)
            total = zeros(x)
            for t in range(first, last):
                total = total + select(steps, t, load(x, i, t, d), zeros(x))
            store(y, i, window, d, total / _steps_seen(steps, first, last))


@jit
def average_pooling_backward(dx, dy, left, size, stride, before, begin, end):
    """Add the gradient of x to zeros; shapes as in `average_pooling`."""
    D = dx.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        for window in range(dy.shape[1]):
            first, last = _ends(dx, window, size, stride, before)
            share = load(dy, i, window, d) / _steps_seen(steps, first, last)
            for t in range(first, last):
                some = select(steps, t, share, zeros_like(share))
                store(dx, i, t, d, load(dx, i, t, d) + some)


@jit
def max_pooling(y, places, x, left, size, stride, before, begin, end):
    """Write the largest value of each window, and how far behind its first step it stands.

    Shapes as in `average_pooling`; ``places`` as y.
    """
    D = x.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        steps = load(left, i, 0, 0)
        for window in range(y.shape[1]):
            first, last = _ends(x, window, size, stride, before)
            best, place = load(x, i, first, d), zeros(x)
            for t in range(first + 1, last):
                v = select(steps, t, load(x, i, t, d), best)
                place = place + step(v - best) * (zeros(x) + (t - first) - place)
                best = maximum(best, v)
            store(y, i, window, d, best)
            store(places, i, window, d, place)


@jit
def max_pooling_backward(dx, dy, places, size, stride, before, begin, end):
    """Add the gradient of x to zeros; shapes as in `max_pooling`."""
    D = dx.shape[2]
    for item in range(begin, end):
        i, d = item // D, item % D
        for window in range(dy.shape[1]):
            first, _ = _ends(dx, window, size, stride, before)
            for n in range(LANES):
                dx[i, first + int(places[i, window, d, n]), d, n] += dy[i, window, d, n]
