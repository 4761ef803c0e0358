"""A cell: the equations of one step, traced to a graph."""

import builtins
import inspect
import keyword
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

    def __reduce__(self) -> Any:
        """Travel to another process as equations."""
        from .text import from_plain, plain

        return from_plain, (plain(self),)

    def __repr__(self) -> str:
        return f"<cell {self.name}({', '.join(['x', *self.states])})>"


def cell(function: Callable[..., Any] | None = None, **starts: Mapping[str, Start]) -> Any:
    """Make a cell of a function of the equations of one step; a decorator.

    Parameters
    ----------
    function : function of (x, states..., W, w)
        ``x.NAME`` is the input projection of a gate with its bias, each state is that before the
        step, ``W.NAME`` is a recurrent matrix and ``w.NAME`` a vector of weights (H,), one a unit.
        W and w are left out where there are none. It returns the states after the step, in the
        order of its arguments; the first is the output.
    vectors, biases : dict, optional
        First values of vectors and of the gates' biases, by name: a number, or a pair, between
        which they are drawn. The others are drawn as the layer's ``bias_initializer`` says.

    Raises
    ------
    CellError
        Where the equations cannot be compiled; it names the line.

    Examples
    --------
    >>> @cell
    ... def leaky(x, h, W, w):
    ...     keep = sigmoid(w.keep)
    ...     return keep * h + (1 - keep) * tanh(x.h + h @ W.h)
    """
    if unknown := starts.keys() - {"vectors", "biases"}:
        raise CellError(f"cell has no option {min(unknown)}: it takes vectors and biases")
    if function is None:
        return lambda function: cell(function, **starts)
    given = dict(starts.get("vectors", {}))
    given |= {f"b.{name}": value for name, value in starts.get("biases", {}).items()}
    return trace(function, given)


def trace(
    function: Callable[..., Any], starts: Mapping[str, Start], name: str | None = None
) -> Cell:
    """Return the cell of a function; see `cell`."""
    where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
    parameters = list(inspect.signature(function).parameters)
    graph = Graph()
    states = tuple(p for p in parameters[1:] if p not in ("W", "w"))
    if parameters[:1] != ["x"] or not states:
        raise CellError(f"{where}: a cell takes x, its states, then W and w where it needs them")
    special: dict[str, Any] = {
        "x": Names(graph, "x", "input"),
        "W": Names(graph, "W", "product"),
        "w": Names(graph, "w", "vector"),
    }
    arguments = [special[p] if p in special else graph.make("state", value=p) for p in parameters]
    with _named_variables(function) as variables, _one_line(function, where):
        returned = function(*arguments)
    graph.tracing = False
    outputs = returned if isinstance(returned, tuple) else (returned,)
    if len(outputs) != len(states):
        raise CellError(
            f"{where}: it returns {len(outputs)} values for {len(states)} states: "
            f"return {', '.join(states)} after the step, in the order of the arguments"
        )
    try:
        nodes = tuple(graph.node(output) for output in outputs)
    except CellError as error:  # the function is not running: its first line is the place
        raise CellError(f"{where}{_tail(str(error))}") from None
    made = Cell(
        name or function.__name__, inspect.getdoc(function) or "", graph, nodes, states, starts
    )
    _label(made, variables)
    check(made, where)
    from .text import equations, parse  # which reads equations as this module does

    # As a record would give it back: gates and weights are in the order in which the text has them.
    return replace(parse(equations(made), made.starts), doc=made.doc)


@final
class Names:
    """``x``, ``W`` or ``w``: gives the value of a name."""

    def __init__(self, graph: Graph, name: str, op: str) -> None:
        self._graph, self._name, self._op = graph, name, op

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Matrix(name) if self._op == "product" else self._graph.make(self._op, value=name)

    def refuse_alone(self, *_: Any) -> NoReturn:
        """Tell what stands behind the name."""
        refuse(f"{self._name} alone is no value: write {self._name}.NAME, one name for each gate")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = refuse_alone
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = refuse_alone
    __array_ufunc__ = __getitem__ = __bool__ = __float__ = __iter__ = refuse_alone


@contextmanager
def _named_variables(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Collect the local variables of a call of the function."""
    found: dict[str, Any] = {}
    before = sys.getprofile()

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is function.__code__:
            found.update(frame.f_locals)

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)


@contextmanager
def _one_line(function: Callable[..., Any], where: str) -> Iterator[None]:
    """Turn whatever the user's equations raise into one line that names theirs."""
    try:
        yield
    except CellError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f for f in frames if f.filename == function.__code__.co_filename]
        place = f"{lines[-1].filename}:{lines[-1].lineno}" if lines else where
        raise CellError(f"{place}: {type(error).__name__}: {error}") from None


def _tail(text: str) -> str:
    return text[text.index(": ") :] if ": " in text else f": {text}"


def _label(made: Cell, variables: Mapping[str, Any]) -> None:
    """Name nodes as the user's variables do, each by another name than any argument."""
    taken = {"x", "W", "w", *made.states, *vars(builtins), *keyword.kwlist}
    held = {node.index for node in made.nodes}
    for name, value in variables.items():
        if not isinstance(value, Node) or value.index not in held or value.label:
            continue
        if value.op in ("input", "state", "vector", "number"):
            continue
        while name in taken or not name.isidentifier():
            name = f"{name}_new" if name in made.states else f"{name}_"
        value.label = name
        taken.add(name)


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
        if name in _TAKEN:
            raise CellError(f"{where}: w.{name} is the name of another parameter: rename it")
    known = {*made.vectors, *(f"b.{gate}" for gate in made.gates)}
    for name, start in made.starts.items():
        if name not in known:
            raise CellError(f"{where}: {made.name} has no {name} to start with a value")
        values = start if isinstance(start, tuple) else (start,)
        if len(values) > 2 or not all(isinstance(v, int | float) for v in values):
            raise CellError(f"{where}: {name} starts with a number or a pair, not {start!r}")
