"""Norms: over the features of a step, and over the steps of a batch.

Arrays are (tiles, T, D, LANES), weights (D,). Tiles and steps are cut by the layers, so that
threads can share them. ``left``, (tiles, 1, 1, LANES), holds the steps that count of each clip from
the first one here on, in the dtype of the signal.
"""

from ._jit import jit
from ._lanes import load, select, sqrt, store, total, zeros, zeros_like


@jit
def layer_norm(y, normal, scale, x, gamma, beta, epsilon):
    """Write ``normal = (x - mean) * scale``, 1 / deviation as ``scale``, and the outputs.

    ``scale`` is (tiles, T, 1, LANES).
    """
    D = x.shape[2]
    for i in range(x.shape[0]):
        for t in range(x.shape[1]):
            mean, variance = zeros(x), zeros(x)
            for d in range(D):
                mean = mean + load(x, i, t, d)
            mean = mean / D
            for d in range(D):
                off = load(x, i, t, d) - mean
                variance = variance + off * off
            factor = 1.0 / sqrt(variance / D + epsilon)
            store(scale, i, t, 0, factor)
            for d in range(D):
                off = (load(x, i, t, d) - mean) * factor
                store(normal, i, t, d, off)
                store(y, i, t, d, gamma[d] * off + beta[d])


@jit
def layer_norm_backward(dx, dy, normal, scale, gamma):
    """Write the gradient of x."""
    D = dx.shape[2]
    for i in range(dx.shape[0]):
        for t in range(dx.shape[1]):
            mean, along = zeros(dx), zeros(dx)
            for d in range(D):
                g = gamma[d] * load(dy, i, t, d)
                mean = mean + g
                along = along + g * load(normal, i, t, d)
            mean, along, factor = mean / D, along / D, load(scale, i, t, 0)
            for d in range(D):
                g = gamma[d] * load(dy, i, t, d)
                store(dx, i, t, d, factor * (g - mean - along * load(normal, i, t, d)))


@jit
def add_weight_gradients(dgamma, dbeta, dy, normal):
    """Add the gradients of gamma and beta, (D,)."""
    T, D = dy.shape[1], dy.shape[2]
    for i in range(dy.shape[0]):
        for d in range(D):
            along, whole = zeros(dy), zeros(dy)
            for t in range(T):
                g = load(dy, i, t, d)
                along, whole = along + g * load(normal, i, t, d), whole + g
            dgamma[d] += total(along)
            dbeta[d] += total(whole)


@jit
def add_moment(sums, x, means, power, left):
    """Add the sum of ``(x - mean) ** power`` over the steps that count to ``sums``, (D,).

    ``means`` is (D,), ``power`` is 1 or 2.
    """
    T, D = x.shape[1], x.shape[2]
    for i in range(x.shape[0]):
        steps = load(left, i, 0, 0)
        for d in range(D):
            some = zeros(x)
            for t in range(T):
                off = load(x, i, t, d) - means[d]
                if power == 2:
                    off = off * off
                some = some + select(steps, t, off, zeros_like(off))
            sums[d] += total(some)


@jit
def batch_norm(y, normal, x, means, scales, gamma, beta):
    """Write ``normal = (x - mean) * scale`` and the outputs ``gamma * normal + beta``."""
    D = x.shape[2]
    for i in range(x.shape[0]):
        for t in range(x.shape[1]):
            for d in range(D):
                off = (load(x, i, t, d) - means[d]) * scales[d]
                store(normal, i, t, d, off)
                store(y, i, t, d, gamma[d] * off + beta[d])


@jit
def batch_norm_backward(dx, dy, normal, factors, mean, along, left):
    """Write ``factor * (dy - mean - along * normal)`` where steps count, else 0; weights (D,)."""
    D = dx.shape[2]
    for i in range(dx.shape[0]):
        steps = load(left, i, 0, 0)
        for t in range(dx.shape[1]):
            for d in range(D):
                g = load(dy, i, t, d) - mean[d] - along[d] * load(normal, i, t, d)
                g = factors[d] * g
                store(dx, i, t, d, select(steps, t, g, zeros_like(g)))
