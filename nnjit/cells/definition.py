"""The equations of one step of a recurrence as a graph, and checks that a layer can run them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, final

from ..errors import CellError
from .graph import Graph, Matrix, Node, reachable, refuse

Start = float | tuple[float, float]  # a number, or the bounds of a uniform distribution
_TAKEN = ("U", "V", "b")  # parameters that every layer has


@final
@dataclass(frozen=True, eq=False)
class Cell:
    """The equations of one step of a recurrence.

    Attributes
    ----------
    name, doc
        Name and docstring of the traced function.
    graph, outputs
        Its values; ``outputs`` are the states after the step, in the order of ``states``.
    gates, matrices, vectors
        Names of the input projections, recurrent matrices and weights (H,), in order of first use.
    starts
        Initial values of vectors, and of biases of gates under ``b.NAME``: a number, or the bounds
        of a uniform distribution.
    """

    name: str
    doc: str
    graph: Graph
    outputs: tuple[Node, ...]
    states: tuple[str, ...]
    starts: Mapping[str, Start] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> list[Node]:
        """The nodes on which the outputs depend, each after its arguments."""
        return reachable(list(self.outputs))

    def _names(self, op: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.value for node in self.nodes if node.op == op))

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """The input projections ``x.NAME``."""
        return self._names("input")

    @cached_property
    def matrices(self) -> tuple[str, ...]:
        """The recurrent matrices ``W.NAME``."""
        return self._names("product")

    @cached_property
    def vectors(self) -> tuple[str, ...]:
        """The weights ``w.NAME``."""
        return self._names("vector")

    def __call__(self, *_: Any) -> NoReturn:
        """Raise CellError with the remedy: a cell is no function of arrays."""
        refuse(f"{self.name} is a cell: nnjit.layers.Recurrent({self.name}, hidden_size) runs it")

    def __deepcopy__(self, memo: Any) -> "Cell":
        """Return the same object, which is immutable."""
        return self

    def __repr__(self) -> str:
        return f"<cell {self.name}({', '.join(['x', *self.states])})>"


@final
class Names:
    """The argument ``x``, ``W`` or ``w`` of a cell; an attribute is the value of that name."""

    def __init__(self, graph: Graph, name: str, op: str) -> None:
        self._graph, self._name, self._op = graph, name, op

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Matrix(name) if self._op == "product" else self._graph.make(self._op, value=name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            refuse(f"{self._name}.{name} is given and cannot be set: use another variable")
        super().__setattr__(name, value)

    def refuse_alone(self, *_: Any) -> NoReturn:
        """Raise CellError with the remedy: the argument needs a name after it."""
        refuse(f"{self._name} alone is no value: write {self._name}.NAME, one name for each gate")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = refuse_alone
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = refuse_alone
    __array_ufunc__ = __getitem__ = __bool__ = __float__ = __iter__ = refuse_alone


def check(cell: Cell, where: str) -> None:
    """Raise CellError if no layer can run the cell."""
    dead = [
        node
        for node in cell.graph.nodes
        if node.op in ("input", "product", "vector") and node not in cell.nodes
    ]
    if dead:
        kind = {"input": "x", "product": "W", "vector": "w"}[dead[0].op]
        raise CellError(
            f"{dead[0].place or where}: nothing that {cell.name} returns depends on "
            f"{kind}.{dead[0].value}"
        )
    if not cell.gates:
        raise CellError(f"{where}: {cell.name} never reads its inputs: use x.NAME")
    for name in cell.vectors:
        if name in _TAKEN or name in cell.states:
            raise CellError(
                f"{where}: w.{name} is the name of a state or of another parameter: rename it"
            )
    known = {*cell.vectors, *(f"b.{gate}" for gate in cell.gates)}
    for name, start in cell.starts.items():
        if name not in known:
            raise CellError(f"{where}: {cell.name} has no {name} to start with a value")
        values = start if isinstance(start, tuple) else (start,)
        if len(values) > 2 or not all(isinstance(v, int | float) for v in values):
            raise CellError(f"{where}: {name} starts with a number or a pair, not {start!r}")
