"""The graph of a cell's equations: the values of one unit at one step, and their arguments.

=========== ============================== ==========================================
op          value                          meaning
=========== ============================== ==========================================
``input``   name of a gate                 its input projection, with its bias
``state``   name of a state                the state before the step
``vector``  name of a weight (H,)          one weight a unit
``number``  the number
``mask``    ``mask``                       of dropout, the same at all steps
``product`` name of a recurrent matrix     its row-vector product with the argument
``add`` ... a function of `functions`      elementwise
``seed``    name of a state                gradient of the state after the step
``transposed``  name of a recurrent matrix     product with the transposed matrix
=========== ============================== ==========================================

Masks are in cells with recurrent dropout only, see `rewrite`; the last two are in graphs with
gradients only, see `adjoint`.
"""

import operator
import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, final

from ..errors import CellError
from .functions import FUNCTIONS, UFUNCS

_HERE = Path(__file__).parent
_ARITHMETIC: dict[str, Callable[..., float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
}


def place_of_user() -> str:
    """Return file and line of the innermost frame outside of this package, or ""."""
    frame = sys._getframe(1)
    while frame is not None:
        if Path(frame.f_code.co_filename).parent != _HERE:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def refuse(message: str) -> NoReturn:
    """Raise a `CellError` that begins with the line of the user's file."""
    raise CellError(f"{place_of_user()}: {message}")


@final
class Matrix:
    """A recurrent matrix ``W.name``, the right operand of ``@``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(f"W.{self.name} is a matrix: it may only be on the right of @")

    def refuse_alone(self, *_: Any) -> NoReturn:
        """Raise CellError with the remedy: a matrix is only the right operand of ``@``."""
        refuse(f"W.{self.name} is a matrix: write h @ W.{self.name}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = refuse_alone
    __neg__ = __rtruediv__ = __matmul__ = __array_ufunc__ = refuse_alone
    __getitem__ = __bool__ = __float__ = refuse_alone


@final
class Node:
    """A value of the graph, which takes ``+ - * /``, ``@`` and the functions of `functions`."""

    __slots__ = ("args", "graph", "index", "label", "op", "place", "value")

    def __init__(self, graph: "Graph", op: str, args: tuple["Node", ...], value: Any) -> None:
        self.graph, self.op, self.args, self.value = graph, op, args, value
        self.index = len(graph.nodes)
        self.label = ""  # the name of the user's variable
        self.place = ""

    def __repr__(self) -> str:
        inside = ", ".join([*map(repr, self.args), *([repr(self.value)] if self.value else [])])
        return f"{self.op}({inside})"

    def _with(self, op: str, other: Any, reflected: bool = False) -> "Node":
        other = self.graph.node(other)
        return self.graph.make(op, *((other, self) if reflected else (self, other)))

    def __add__(self, other: Any) -> "Node":
        return self._with("add", other)

    def __radd__(self, other: Any) -> "Node":
        return self._with("add", other, True)

    def __sub__(self, other: Any) -> "Node":
        return self._with("sub", other)

    def __rsub__(self, other: Any) -> "Node":
        return self._with("sub", other, True)

    def __mul__(self, other: Any) -> "Node":
        return self._with("mul", other)

    def __rmul__(self, other: Any) -> "Node":
        return self._with("mul", other, True)

    def __truediv__(self, other: Any) -> "Node":
        return self._with("div", other)

    def __rtruediv__(self, other: Any) -> "Node":
        return self._with("div", other, True)

    def __neg__(self) -> "Node":
        return self.graph.make("neg", self)

    def __pos__(self) -> "Node":
        return self

    def __abs__(self) -> "Node":
        return self.graph.make("absolute", self)

    def __pow__(self, power: Any) -> "Node":
        if not isinstance(power, int) or isinstance(power, bool) or not 1 <= power <= 8:
            refuse("** takes a whole number from 1 to 8; other powers are written with exp and log")
        out = self
        for _ in range(power - 1):
            out = out * self
        return out

    def __matmul__(self, other: Any) -> "Node":
        if not isinstance(other, Matrix):
            refuse("@ takes a matrix of the recurrent weights on its right: h @ W.name")
        if self.is_steady():
            refuse(f"the value before @ W.{other.name} does not change with time")
        return self.graph.make("product", self, value=other.name)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **_: Any) -> "Node":
        """Handle NumPy's functions, and NumPy's numbers on the left of an operator."""
        op = UFUNCS.get(ufunc.__name__)
        if op is None or method != "__call__":
            refuse(f"np.{ufunc.__name__} has no derivative here: use {', '.join(FUNCTIONS)}")
        return self.graph.make(op, *[self.graph.node(arg) for arg in args])

    def _no_value(self, *_: Any) -> NoReturn:
        refuse(
            "a branch, comparison or conversion of a value: the equations are traced once, for "
            "all steps; use maximum, minimum, relu or absolute"
        )

    __bool__ = __float__ = __int__ = __lt__ = __le__ = __gt__ = __ge__ = _no_value
    __index__ = __complex__ = _no_value

    def _no_parts(self, *_: Any) -> NoReturn:
        refuse("a value has one element for each unit of the layer and cannot be taken apart")

    __getitem__ = __iter__ = __len__ = _no_parts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(f"a value of a cell has no .{name}")

    def is_steady(self) -> bool:
        """Tell whether a value is the same at all steps: it depends on weights and numbers only."""
        if self.op in ("input", "state", "mask", "seed"):
            return False
        return all(arg.is_steady() for arg in self.args)


@final
class Graph:
    """Nodes in the order of creation; equal operations share one node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._interned: dict[tuple[Any, ...], Node] = {}
        self.tracing = True

    def node(self, value: Any) -> Node:
        """Return a node of this graph, or the node of a number."""
        if isinstance(value, Node):
            if value.graph is not self:
                refuse("a value of another cell, or of another call of this one")
            return value
        if hasattr(value, "refuse_alone"):  # W.name, or x, W and w themselves
            value.refuse_alone()
        shape = getattr(value, "shape", ())
        if shape != ():
            refuse(
                f"an array of shape {shape} meets a value of the cell: all are as wide as the "
                "layer; vectors of weights are w.name"
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            refuse(f"{value!r} is no value of the cell and no number")
        return self._number(number)

    def _number(self, value: float) -> Node:
        if not isfinite(value):
            refuse(f"a number of the equations is {value}")
        return self.make("number", value=value)

    def make(self, op: str, *args: Node, value: Any = None) -> Node:
        """Return the node of an operation; one on numbers alone is computed at once."""
        if args and all(arg.op == "number" for arg in args):
            function = _ARITHMETIC.get(op) or FUNCTIONS[op].numpy
            return self._number(float(function(*[arg.value for arg in args])))
        if op == "mul" and any(arg.op == "number" and arg.value == 1 for arg in args):
            return args[1] if args[0].op == "number" and args[0].value == 1 else args[0]
        key = (op, *[arg.index for arg in args], value)
        node = self._interned.get(key)
        if node is None:
            node = Node(self, op, args, value)
            if self.tracing:
                node.place = place_of_user()
            self.nodes.append(node)
            self._interned[key] = node
        return node


def reachable(outputs: list[Node]) -> list[Node]:
    """Return the nodes on which the outputs depend, each after its arguments."""
    nodes: dict[int, Node] = {}
    pending = list(outputs)
    while pending:
        node = pending.pop()
        if node.index not in nodes:
            nodes[node.index] = node
            pending += node.args
    return [nodes[index] for index in sorted(nodes)]


def consumers(nodes: list[Node]) -> dict[int, list[Node]]:
    """Return, by index, the nodes that take each node; twice if both arguments are that node."""
    takers: dict[int, list[Node]] = {node.index: [] for node in nodes}
    for node in nodes:
        for arg in node.args:
            takers[arg.index].append(node)
    return takers
