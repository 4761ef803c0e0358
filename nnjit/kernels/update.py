"""Parameter updates in one pass over the memory.

Arrays are flat, (P,); scalars have the dtype of the arrays, so that nothing is computed in float64.
"""

import numpy as np

from ._jit import jit


@jit
def sgd(w, g, learning_rate):
    """``w -= learning_rate * g``."""
    for i in range(w.size):
        w[i] -= learning_rate * g[i]


@jit
def momentum(w, g, v, learning_rate, mu):
    """``v = mu * v + g; w -= learning_rate * v`` (Polyak 1964, in the form of torch.optim.SGD)."""
    for i in range(w.size):
        v[i] = mu * v[i] + g[i]
        w[i] -= learning_rate * v[i]


@jit
def rmsprop(w, g, v, learning_rate, rho, rest, epsilon):
    """``v = rho * v + rest * g**2; w -= learning_rate * g / (sqrt(v) + epsilon)``."""
    for i in range(w.size):
        v[i] = rho * v[i] + rest * g[i] * g[i]
        w[i] -= learning_rate * g[i] / (np.sqrt(v[i]) + epsilon)


@jit
def rmsprop_momentum(w, g, v, step, learning_rate, rho, rest, epsilon, mu):
    """`rmsprop` with ``step = mu * step + g / (sqrt(v) + epsilon); w -= learning_rate * step``."""
    for i in range(w.size):
        v[i] = rho * v[i] + rest * g[i] * g[i]
        step[i] = mu * step[i] + g[i] / (np.sqrt(v[i]) + epsilon)
        w[i] -= learning_rate * step[i]


@jit
def ema(average, w, momentum, rest):
    """``average = momentum * average + rest * w``."""
    for i in range(w.size):
        average[i] = momentum * average[i] + rest * w[i]


@jit
def adam(w, g, m, v, step_size, beta1, rest1, beta2, rest2, root_correction2, epsilon):
    """One step of Adam (Kingma & Ba 2015, algorithm 1).

    ``step_size`` is the learning rate over ``1 - beta1**t``, ``root_correction2`` is
    ``sqrt(1 - beta2**t)``, ``rest1`` and ``rest2`` are ``1 - beta1`` and ``1 - beta2``.
    """
    for i in range(w.size):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        w[i] -= step_size * m[i] / (np.sqrt(v[i]) / root_correction2 + epsilon)
