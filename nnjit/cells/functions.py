"""The functions that equations may use, in NumPy, and their derivatives as factors in the graph.

The compiled functions have the same names, in `nnjit.kernels.functions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

Slope = Callable[[Any, Any], list[Any]]  # (argument, result) -> factors of the derivative


@final
@dataclass(frozen=True)
class Function:
    """An elementwise function of one argument.

    ``slope`` returns the factors of the derivative, given argument and result. ``from_result`` says
    that the result is enough, so that the argument need not be saved.
    """

    numpy: Callable[..., Any]
    slope: Slope
    from_result: bool = True


def _sigmoid(x: Any) -> Any:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def _step(x: Any) -> Any:
    return np.where(np.isnan(x), 0.0, np.heaviside(x, 0.0))


def _node(name: str, x: Any) -> Any:
    return x.graph.make(name, x)


def step(x: Any) -> Any:
    """Return 1 where x is above 0, else 0: it is in the derivatives of functions with corners."""
    return _node("step", x)


def _hard_sigmoid(x: Any) -> Any:
    return np.clip(x / 6 + 0.5, 0, 1)


FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function(_sigmoid, lambda x, y: [y, 1 - y]),
    "tanh": Function(np.tanh, lambda x, y: [1 - y * y]),
    "relu": Function(lambda x: np.maximum(x, 0), lambda x, y: [step(y)]),
    "leaky_relu": Function(lambda x: np.maximum(x, 0.01 * x), lambda x, y: [0.01 + 0.99 * step(y)]),
    "elu": Function(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x, y: [1 - _node("relu", -y)],
    ),
    "hard_sigmoid": Function(_hard_sigmoid, lambda x, y: [step(y * (1 - y)) * (1 / 6)]),
    "hard_tanh": Function(lambda x: np.clip(x, -1, 1), lambda x, y: [step(1 - y * y)]),
    "softsign": Function(lambda x: x / (1 + np.abs(x)), lambda x, y: [1 - abs(y), 1 - abs(y)]),
    "softplus": Function(lambda x: np.logaddexp(x, 0), lambda x, y: [1 - _node("exp", -y)]),
    "exp": Function(np.exp, lambda x, y: [y]),
    "log": Function(np.log, lambda x, y: [1 / x], from_result=False),
    "sqrt": Function(np.sqrt, lambda x, y: [0.5 / y]),
    "absolute": Function(np.abs, lambda x, y: [step(x) - step(-x)], from_result=False),
    "sin": Function(np.sin, lambda x, y: [_node("cos", x)], from_result=False),
    "cos": Function(np.cos, lambda x, y: [-_node("sin", x)], from_result=False),
    "maximum": Function(np.maximum, lambda x, y: []),  # of two arguments: see `adjoint`
    "minimum": Function(np.minimum, lambda x, y: []),
    "step": Function(_step, lambda x, y: []),  # its derivative is 0
}
PUBLIC = tuple(name for name in FUNCTIONS if name != "step")
# NumPy's names of the same operations.
UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "negative": "neg",
    **{name: name for name in ("tanh", "exp", "log", "sqrt", "absolute", "sin", "cos")},
    "maximum": "maximum",
    "minimum": "minimum",
}


def _public(name: str, equation: str) -> Callable[..., Any]:
    arity = 2 if name in ("maximum", "minimum") else 1

    def function(*args: Any) -> Any:
        if len(args) != arity:
            raise TypeError(f"{name} takes {arity} value{'s' * (arity > 1)}, not {len(args)}")
        for arg in args:
            if hasattr(arg, "graph"):
                return arg.graph.make(name, *[arg.graph.node(a) for a in args])
        return FUNCTIONS[name].numpy(*args)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return {equation}, of values of a cell or of numbers and arrays."
    return function


sigmoid = _public("sigmoid", "``1 / (1 + exp(-x))``")
tanh = _public("tanh", "the hyperbolic tangent of x")
relu = _public("relu", "``maximum(x, 0)``")
leaky_relu = _public("leaky_relu", "``maximum(x, 0.01 * x)``")
elu = _public("elu", "x above 0, ``exp(x) - 1`` below")
hard_sigmoid = _public("hard_sigmoid", "``x / 6 + 0.5``, at least 0 and at most 1")
hard_tanh = _public("hard_tanh", "x, at least -1 and at most 1")
softsign = _public("softsign", "``x / (1 + abs(x))``")
softplus = _public("softplus", "``log(1 + exp(x))``")
exp = _public("exp", "the exponential of x")
log = _public("log", "the natural logarithm of x")
sqrt = _public("sqrt", "the square root of x")
absolute = _public("absolute", "the absolute value of x")
sin = _public("sin", "the sine of x")
cos = _public("cos", "the cosine of x")
maximum = _public("maximum", "the larger of x and y")
minimum = _public("minimum", "the smaller of x and y")
