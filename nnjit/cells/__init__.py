"""Recurrent cells from their equations; gradients and kernels are derived.

>>> from nnjit.cells import cell, sigmoid, tanh
>>> @cell
... def gru(x, h, W):
...     z = sigmoid(x.z + h @ W.z)
...     r = sigmoid(x.r + h @ W.r)
...     g = tanh(x.g + (r * h) @ W.g)
...     return z * h + (1 - z) * g

`nnjit.layers.Recurrent` runs it. `trace` turns the function into a `graph`, `adjoint` derives
its gradients, `layout`, `forward`, `backward` and `one_unit` write its kernels, and `compiled`
compiles them. `evaluate` computes the same graph in NumPy, `text` writes and reads equations.
"""

from .definition import Cell
from .functions import (
    absolute,
    cos,
    elu,
    exp,
    hard_sigmoid,
    hard_tanh,
    leaky_relu,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sin,
    softplus,
    softsign,
    sqrt,
    tanh,
)
from .trace import cell

__all__ = [
    "Cell",
    "absolute",
    "cell",
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
    "tanh",
]
