"""Writes the equations of a cell as text and reads them back, for model files and records.

The text is a Python function of the form that `cell` takes, but it is never run: `parse` reads only
the few kinds of expression that `equations` writes.
"""

import ast
import copyreg
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import CellError
from .definition import Cell, Names, Start, check
from .functions import PUBLIC
from .graph import Graph, Matrix, Node, consumers

MOST_CHARACTERS = 20_000
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "product": "@"}
_LEVELS = {"add": 1, "sub": 1, "mul": 2, "div": 2, "product": 2, "neg": 3}
_PREFIX = {"input": "x.", "vector": "w.", "state": "", "mask": ""}


def equations(cell: Cell) -> str:
    """Return the equations as a function that `parse` reads back to the same graph."""
    labels = _labels(cell)
    arguments = ["x", *cell.states]
    arguments += ["W"] * bool(cell.matrices) + ["w"] * bool(cell.vectors)
    lines = [f"def {cell.name}({', '.join(arguments)}):"]
    for node in cell.nodes:
        if node.index in labels:
            lines.append(f"    {labels[node.index]} = {write(node, labels, inside=False)}")
    lines.append(f"    return {', '.join(write(node, labels) for node in cell.outputs)}")
    return "\n".join(lines) + "\n"


def _labels(cell: Cell) -> dict[int, str]:
    """Return the names of the nodes that are written on a separate line."""
    taken_by = consumers(cell.nodes)
    used = {node.label for node in cell.nodes}
    labels: dict[int, str] = {}
    for node in cell.nodes:
        label = node.label
        if not label and len(taken_by[node.index]) > 1 and node.args and not _is_short(node):
            n = len(labels) + 1
            label = f"t{n}"
            while label in used or label in cell.states:
                n += 1
                label = f"t{n}"
        if label:
            labels[node.index] = label
            used.add(label)
    return labels


def _is_short(node: Node) -> bool:
    """Tell whether a value, such as ``1 - z``, is repeated rather than named."""
    return all(not arg.args or arg.label for arg in node.args) and node.op in ("sub", "neg")


def write(node: Node, labels: Mapping[int, str], inside: bool = True) -> str:
    """Return a node as an expression of labels; with ``inside``, its label if it has one."""
    if inside and node.index in labels:
        return labels[node.index]
    if node.op == "number":
        return number(node.value)
    if node.op in _PREFIX:
        return _PREFIX[node.op] + str(node.value)
    if node.op == "transposed":
        parts = [
            (write(arg, labels), name) for arg, name in zip(node.args, node.value, strict=True)
        ]
        return f"({' + '.join(f'{text} @ W.{name}.T' for text, name in parts)})"
    if node.op not in _LEVELS:
        return f"{node.op}({', '.join(write(arg, labels) for arg in node.args)})"
    level = _LEVELS[node.op]
    sides = []
    for i, arg in enumerate(node.args):
        text = write(arg, labels)
        binding = 9 if arg.index in labels else _LEVELS.get(arg.op, 9)
        if arg.op == "number" and arg.value < 0:
            binding = 0
        bracket = binding < level or (binding == level and i > 0)
        bracket = bracket or (node.op == "product" and binding < 9)
        sides.append(f"({text})" if bracket else text)
    if node.op == "neg":
        return f"-{sides[0]}"
    right = f"W.{node.value}" if node.op == "product" else sides[1]
    return f"{sides[0]} {_SYMBOLS[node.op]} {right}"


def number(value: float) -> str:
    """Return a number as text, whole numbers without a point."""
    value = float(value)  # repr of NumPy's numbers differs
    return str(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)


def plain(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain values, for files and records."""
    # Converted from NumPy's numbers, which a file cannot hold.
    starts = {
        name: [float(v) for v in start] if isinstance(start, tuple) else float(start)
        for name, start in sorted(cell.starts.items())
    }
    return {"equations": equations(cell), "starts": starts}


def from_plain(values: Any) -> Cell:
    """Return the cell of `plain`; CellError for any other value."""
    if not isinstance(values, Mapping) or set(values) != {"equations", "starts"}:
        raise CellError(f"{str(values)[:60]!r} is no cell: a record holds its equations and starts")
    starts = values["starts"]
    if not isinstance(starts, Mapping):
        raise CellError("the starts of a cell are numbers or pairs by name")
    by_name = {str(k): tuple(v) if isinstance(v, list | tuple) else v for k, v in starts.items()}
    return parse(values["equations"], by_name)


def _reduce(cell: Cell) -> tuple[Any, ...]:
    return from_plain, (plain(cell),)


copyreg.pickle(Cell, _reduce)  # a cell is pickled as its equations


def parse(text: Any, starts: Mapping[str, Start] | None = None) -> Cell:
    """Return the cell of equations as text, without running it.

    Raises
    ------
    CellError
        If the text holds anything but equations.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise CellError(
            f"the equations of a cell are a text of {MOST_CHARACTERS} characters at most"
        )
    try:
        return _Reader(text).cell(dict(starts or {}))
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
        raise CellError(f"these are no equations of a cell: {error}") from None


class _Reader:
    """Reads one function, expression by expression."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        function = tree.body[0] if len(tree.body) == 1 else None
        if not isinstance(function, ast.FunctionDef):
            raise CellError("the equations of a cell are one function")
        signature = function.args
        if function.decorator_list or signature.defaults or signature.vararg or signature.kwarg:
            raise CellError("the equations of a cell take x, states, W and w")
        self._function, self._graph = function, Graph()
        self._graph.tracing = False
        arguments = [arg.arg for arg in signature.args]
        self.states = tuple(a for a in arguments if a not in ("x", "W", "w"))
        if arguments[:1] != ["x"] or not self.states:
            raise CellError("the equations of a cell take x, states, W and w")
        self._values: dict[str, Any] = {
            "x": Names(self._graph, "x", "input"),
            "W": Names(self._graph, "W", "product"),
            "w": Names(self._graph, "w", "vector"),
            **{state: self._graph.make("state", value=state) for state in self.states},
        }

    def cell(self, starts: Mapping[str, Start]) -> Cell:
        """Return the cell."""
        body = self._function.body
        for line in body[:-1]:
            target = line.targets[0] if isinstance(line, ast.Assign) else None
            if not isinstance(line, ast.Assign) or not isinstance(target, ast.Name):
                self._refuse(line)
            name, value = target.id, self._value(line.value)
            if name in self._values or len(line.targets) > 1:
                self._refuse(line)
            if not value.label and value.args:
                value.label = name
            self._values[name] = value
        last = body[-1]
        if not isinstance(last, ast.Return) or last.value is None:
            self._refuse(last)
        parts = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
        outputs = tuple(self._value(part) for part in parts)
        if len(outputs) != len(self.states):
            raise CellError(f"{len(outputs)} values are returned for {len(self.states)} states")
        cell = Cell(self._function.name, "", self._graph, outputs, self.states, starts)
        check(cell, "equations")
        return cell

    def _refuse(self, node: ast.AST) -> NoReturn:
        raise CellError(f"line {getattr(node, 'lineno', 0)} of the equations is none")

    def _value(self, node: ast.expr) -> Node:
        value = self._read(node)
        return self._graph.node(value)

    def _read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id in self._values:
            return self._values[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._read(node.operand)
        if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner in ("x", "W", "w"):
                return getattr(self._values[owner], node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            arity = 2 if node.func.id in ("maximum", "minimum") else 1
            if node.func.id in PUBLIC and len(node.args) == arity:
                return self._graph.make(node.func.id, *[self._value(a) for a in node.args])
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        self._refuse(node)

    def _operation(self, node: ast.BinOp) -> Node:
        left = self._value(node.left)
        if isinstance(node.op, ast.MatMult):
            right = self._read(node.right)
            if isinstance(right, Matrix):
                return left @ right
            self._refuse(node)
        ops = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
        op = ops.get(type(node.op))
        if op is None:
            self._refuse(node)
        return self._graph.make(op, left, self._value(node.right))
