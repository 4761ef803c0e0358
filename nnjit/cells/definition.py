"""A cell: what the equations of one step are as a graph, and what no layer can run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, final

from ..errors import CellError
from .graph import Graph, Matrix, Node, reachable, refuse

Start = float | tuple[float, float]  # a number, or the ends of an even draw
_TAKEN = ("U", "V", "b")  # parameters that every layer has


@final
@dataclass(frozen=True, eq=False)
class Cell:
    """The equations of one step of a recurrence.

    Attributes
    ----------
    name, doc
        Of the function that was traced.
    graph, outputs
        Its values; ``outputs`` are the states after the step, as ``states`` names them.
    gates, matrices, vectors
        Names of the input projections, recurrent matrices and weights (H,), in order of first use.
    starts
        First values of vectors, and of biases of gates under ``b.NAME``: a number, or the ends of
        an even draw.
    """

    name: str
    doc: str
    graph: Graph
    outputs: tuple[Node, ...]
    states: tuple[str, ...]
    starts: Mapping[str, Start] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> list[Node]:
        """What the outputs are made of, each node after its arguments."""
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
        """Tell what to do instead: a cell is no function of arrays."""
        refuse(f"{self.name} is a cell: nnjit.layers.Recurrent({self.name}, hidden_size) runs it")

    def __deepcopy__(self, memo: Any) -> "Cell":
        """Return the same: nothing of a cell changes."""
        return self

    def __repr__(self) -> str:
        return f"<cell {self.name}({', '.join(['x', *self.states])})>"


@final
class Names:
    """``x``, ``W`` or ``w``: gives the value of a name."""

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
        """Tell what stands behind the name."""
        refuse(f"{self._name} alone is no value: write {self._name}.NAME, one name for each gate")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = refuse_alone
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = refuse_alone
    __array_ufunc__ = __getitem__ = __bool__ = __float__ = __iter__ = refuse_alone


def check(made: Cell, where: str) -> None:
    """Refuse what no layer can run."""
    dead = [
        node
        for node in made.graph.nodes
        if node.op in ("input", "product", "vector") and node not in made.nodes
    ]
    if dead:
        kind = {"input": "x", "product": "W", "vector": "w"}[dead[0].op]
        raise CellError(
            f"{dead[0].place or where}: nothing that {made.name} returns depends on "
            f"{kind}.{dead[0].value}"
        )
    if not made.gates:
        raise CellError(f"{where}: {made.name} never reads its inputs: use x.NAME")
    for name in made.vectors:
        if name in _TAKEN or name in made.states:
            raise CellError(
                f"{where}: w.{name} is the name of a state or of another parameter: rename it"
            )
    known = {*made.vectors, *(f"b.{gate}" for gate in made.gates)}
    for name, start in made.starts.items():
        if name not in known:
            raise CellError(f"{where}: {made.name} has no {name} to start with a value")
        values = start if isinstance(start, tuple) else (start,)
        if len(values) > 2 or not all(isinstance(v, int | float) for v in values):
            raise CellError(f"{where}: {name} starts with a number or a pair, not {start!r}")
