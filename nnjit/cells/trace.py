"""Traces a function of the equations of one step to a cell."""

import builtins
import inspect
import keyword
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FunctionType
from typing import Any

from ..errors import CellError, short
from .definition import Cell, Names, Start, check
from .graph import Graph, Node
from .text import equations, parse

_EMPTY = inspect.Parameter.empty
_NOT_PLAIN = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def cell(function: Callable[..., Any] | None = None, **starts: Mapping[str, Start]) -> Any:
    """Make a cell from a function of the equations of one step; a decorator.

    Parameters
    ----------
    function : function of (x, states..., W, w)
        ``x.NAME`` is the input projection of a gate with its bias, each state is the one before the
        step, ``W.NAME`` is a recurrent matrix and ``w.NAME`` a vector of weights (H,), one for each
        unit. W and w are omitted if not used. The function returns the states after the step, in
        the order of its arguments; the first is the output.
    vectors, biases : dict, optional
        Initial values of vectors and of the gates' biases, by name: a number, or the bounds of a
        uniform distribution. The others are drawn by the layer's ``bias_initializer``.

    Raises
    ------
    CellError
        If the equations cannot be compiled; the message names the line.

    Examples
    --------
    >>> from nnjit.cells import sigmoid, tanh
    >>> @cell
    ... def leaky(x, h, W, w):
    ...     keep = sigmoid(w.keep)
    ...     return keep * h + (1 - keep) * tanh(x.h + h @ W.h)
    """
    if unknown := starts.keys() - {"vectors", "biases"}:
        raise CellError(f"cell has no option {min(unknown)}: it takes vectors and biases")
    if function is None:
        return lambda function: cell(function, **starts)
    by_name = dict(starts.get("vectors", {}))
    by_name |= {f"b.{name}": value for name, value in starts.get("biases", {}).items()}
    return trace(function, by_name)


def trace(
    function: Callable[..., Any], starts: Mapping[str, Start], name: str | None = None
) -> Cell:
    """Return the cell of a function; see `cell`."""
    if not isinstance(function, FunctionType):
        raise CellError(f"{short(function)} is no function of equations: write the cell with def")
    where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
    _check_form(function, where)
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
    except CellError as error:  # the function has returned, so the message names its first line
        raise CellError(f"{where}{_tail(str(error))}") from None
    traced = Cell(
        name or function.__name__, inspect.getdoc(function) or "", graph, nodes, states, starts
    )
    _label(traced, variables)
    check(traced, where)
    # As read back from a record: the order of gates and weights is that of the text.
    return replace(parse(equations(traced), traced.starts), doc=traced.doc)


def _check_form(function: Callable[..., Any], where: str) -> None:
    """Raise CellError unless this is a plain function with a name and plain arguments."""
    if not function.__name__.isidentifier():
        raise CellError(f"{where}: a lambda has no name: write the cell with def")
    if function.__code__.co_flags & _NOT_PLAIN:
        raise CellError(f"{where}: {function.__name__} must return its states, not yield or await")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind != parameter.POSITIONAL_OR_KEYWORD or parameter.default is not _EMPTY:
            raise CellError(
                f"{where}: a cell takes x, its states, then W and w: {parameter} is none of these; "
                "a constant is a number in the equations"
            )


@contextmanager
def _named_variables(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Collect the local variables of a call of the function."""
    variables: dict[str, Any] = {}
    before = sys.getprofile()

    def collect(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is function.__code__:
            variables.update(frame.f_locals)

    sys.setprofile(collect)
    try:
        yield variables
    finally:
        sys.setprofile(before)


@contextmanager
def _one_line(function: Callable[..., Any], where: str) -> Iterator[None]:
    """Turn any error of the user's equations into a CellError that names their line."""
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


def _label(traced: Cell, variables: Mapping[str, Any]) -> None:
    """Name nodes after the user's variables, changed where an argument has the same name."""
    taken = {"x", "W", "w", *traced.states, *vars(builtins), *keyword.kwlist}
    indices = {node.index for node in traced.nodes}
    for name, value in variables.items():
        if not isinstance(value, Node) or value.index not in indices or value.label:
            continue
        if value.op in ("input", "state", "vector", "number"):
            continue
        while name in taken or not name.isidentifier():
            name = f"{name}_new" if name in traced.states else f"{name}_"
        value.label = name
        taken.add(name)
