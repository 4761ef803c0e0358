"""The functions of cells on lanes; their NumPy references are in `nnjit.cells.functions`."""

from ._jit import inlined
from ._lanes import (
    absolute,
    cos,
    exp,
    log,
    maximum,
    minimum,
    sigmoid,
    sin,
    sqrt,
    step,
    tanh,
    zeros_like,
)


@inlined
def relu(x):
    """Return x where it is above 0, else 0."""
    return maximum(x, zeros_like(x))


@inlined
def leaky_relu(x):
    """Return x where it is above 0, else ``0.01 * x``."""
    return maximum(x, 0.01 * x)


@inlined
def elu(x):
    """Return x where it is above 0, else ``exp(x) - 1``."""
    zero = zeros_like(x)
    return maximum(x, zero) + (exp(minimum(x, zero)) - 1.0)


@inlined
def hard_sigmoid(x):
    """Return ``x / 6 + 0.5``, at least 0 and at most 1."""
    zero = zeros_like(x)
    return minimum(maximum(x * (1.0 / 6.0) + 0.5, zero), zero + 1.0)


@inlined
def hard_tanh(x):
    """Return x, at least -1 and at most 1."""
    one = zeros_like(x) + 1.0
    return minimum(maximum(x, zeros_like(x) - one), one)


@inlined
def softsign(x):
    """Return ``x / (1 + abs(x))``."""
    return x / (1.0 + absolute(x))


@inlined
def softplus(x):
    """Return ``log(1 + exp(x))`` in a form that neither overflows nor underflows early."""
    return maximum(x, zeros_like(x)) + log(1.0 + exp(zeros_like(x) - absolute(x)))


__all__ = [
    "absolute",
    "cos",
    "elu",
    "exp",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "sin",
    "softplus",
    "softsign",
    "sqrt",
    "step",
    "tanh",
]
