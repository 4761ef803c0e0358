"""The source of a cell's kernels: a module that `compiled` turns into functions."""

import re
from dataclasses import dataclass, replace
from typing import final

from .backward import Backward, TransposedProducts
from .definition import Cell
from .forward import Forward
from .functions import FUNCTIONS
from .indexing import carry_of, columns, seed_name
from .layout import Layout
from .one_unit import OneUnit, old_name
from .text import equations
from .writer import Names, indented


@final
@dataclass(frozen=True)
class Source:
    """The source of the kernels of a cell, and the arrays that they take in addition to ``a``.

    Attributes
    ----------
    text
        Functions forward, backward and gradients, and the same with ``_one``.
    weights, states, scratch, masks
        Names of arrays, in the order in which the kernels take them.
    ragged
        Whether forward and backward take ``left`` after them, see `layout`.
    """

    text: str
    weights: tuple[str, ...]
    states: tuple[str, ...]
    scratch: tuple[str, ...]
    masks: tuple[str, ...]
    ragged: bool


def source(cell: Cell, ragged: bool = False) -> Source:
    """Return the source of the kernels of a cell whose steady values are vectors.

    With ``ragged``, clips may end before the last step.
    """
    layout = Layout(cell, ragged)
    forward = Forward(layout)
    backward = Backward(layout, forward)
    one = OneUnit(layout)
    weights = ("V",) * bool(cell.matrices) + cell.vectors
    scratch = tuple(layout.scratch)
    arrays = ["a", *weights, *cell.states, *scratch, *layout.masks, *(["left"] * ragged)]
    carries = [carry_of(cell.states, state) for state in cell.states]
    back = [*arrays, "dh", *carries]
    seeds = [seed_name(cell.states, state) for state in cell.states]
    names = Names([*arrays, *carries, *seeds])
    kernels = [
        _kernel("forward", [*arrays, "share"], forward.lines(names, backward.saved)),
        _kernel("backward", [*back, "share"], backward.lines(names)),
        _kernel(*_gradients(layout, weights, one=False)),
    ]
    old = [old_name(state) for state in cell.states]
    argument_list = ", ".join(arrays)
    kernels += [
        _step("one_step", [*arrays, "n", "t", *old], one.forward_step(names)),
        _kernel("forward_one", [*arrays, "share"], one.forward("one_step", argument_list)),
        _step("one_step_back", [*arrays, "n", "t", *seeds], one.backward_step(names)),
        _kernel("backward_one", [*back, "share"], one.backward("one_step_back", argument_list)),
        _kernel(*_gradients(layout, weights, one=True)),
    ]
    text = "\n".join([_head(cell, "\n".join(kernels)), *kernels])
    return Source(text, weights, cell.states, scratch, layout.masks, ragged)


_HOMES = {
    "_jit": ("inlined", "jit"),
    "_lanes": ("load", "select", "store", "zeros"),
    "product": (
        "add_outer_of_gates",
        "add_product",
        "add_sum",
        "packed",
        "packed_transposed",
        "set_product",
    ),
    "one_unit": ("add_gate",),
    "team": ("barrier",),
}


def _head(cell: Cell, text: str) -> str:
    """Return the head of the module: the equations, and imports for the functions in use."""
    homes = {"_lanes": _HOMES["_lanes"], **_HOMES, "functions": tuple(FUNCTIONS)}
    lines = ['"""Kernels derived from the equations of a cell.', ""]
    lines += indented(equations(cell).splitlines(), 1)
    lines += ['"""', ""]
    for home in sorted(homes):
        used = [name for name in homes[home] if re.search(rf"\b{name}\b", text)]
        if used:
            lines.append(f"from nnjit.kernels.{home} import {', '.join(sorted(used))}")
    return "\n".join([*lines, "", ""])


def _kernel(name: str, arguments: list[str], body: list[str]) -> str:
    return _function("jit", name, arguments, body)


def _step(name: str, arguments: list[str], body: list[str]) -> str:
    return _function("inlined", name, arguments, body)


def _function(decorator: str, name: str, arguments: list[str], body: list[str]) -> str:
    lines = [f"@{decorator}", f"def {name}({', '.join(arguments)}):", *indented(body, 1)]
    return "\n".join([*lines, "", ""])


def _gradients(
    layout: Layout, weights: tuple[str, ...], one: bool
) -> tuple[str, list[str], list[str]]:
    """Return name, arguments and body of the kernel of the gradients of the weights."""
    cell = layout.cell
    lines = []
    if not one and (layout.products or cell.vectors):
        lines.append(f"H, begin, end = {cell.states[0]}.shape[2], share.begin, share.end")
    for outer in _outer_products(layout):
        lines += (_one_products if one else _wide_products)(outer.operand, outer.results)
    for name, gradient in layout.adjoint.vectors.items():
        array, k = layout.gradient_row(gradient) or (layout.totals[name], None)
        if one:
            lines.append(f"add_sum(d{name}, {array}, {k or 0})")
        else:
            first = "begin" if not k else "H + begin" if k == 1 else f"{k} * H + begin"
            lines.append(f"add_sum(d{name}[:, begin:end], {array}, {first})")
    arrays = ["a", *cell.states, *layout.scratch, *layout.masks]
    arrays += [*(f"d{w}" for w in weights), "share"]
    if lines and "begin" not in "".join(lines[1:]):
        lines = [line.replace("H, begin, end = ", "H = ") for line in lines]
        lines[0] = lines[0].replace(", share.begin, share.end", "")
        if "H" not in "".join(lines[1:]):
            lines = lines[1:] if "shape" in lines[0] else lines
    return "gradients_one" if one else "gradients", arrays, lines or ["pass"]


@final
@dataclass(frozen=True)
class _Outer:
    """The gradients of adjacent matrices: their operand, and the gradients of their results."""

    operand: str
    results: TransposedProducts


def _outer_products(layout: Layout) -> list[_Outer]:
    cell, outer = layout.cell, list[_Outer]()
    ordered = sorted(layout.adjoint.products, key=lambda pair: cell.matrices.index(pair[0].value))
    for product, gradient in ordered:
        operand, column = product.args[0], cell.matrices.index(product.value)
        place = layout.gradient_row(gradient)
        assert place is not None
        if operand.op == "state":
            taken = str(operand.value)
        elif operand in cell.outputs:
            taken = f"{cell.states[cell.outputs.index(operand)]}[:, 1:]"
        else:
            taken = layout.operands[operand.index]
        last = outer[-1] if outer else None
        if last and taken == last.operand and last.results.is_before(*place, column):
            products = last.results
            outer[-1] = _Outer(taken, replace(products, count=products.count + 1))
        else:
            outer.append(_Outer(taken, TransposedProducts(*place, column, 1)))
    return outer


def _wide_products(taken: str, products: TransposedProducts) -> list[str]:
    if products.row == products.column:
        low, high = products.row, products.row + products.count
        return [f"add_outer_of_gates(dV, {taken}, {products.array}, {low}, {high}, share)"]
    weights = columns("dV", ":, :, ", products.column, products.column + products.count)
    rows = products.array
    if products.row is not None:
        rows = columns(products.array, ":, :, ", products.row, products.row + products.count)
    return [f"add_outer_of_gates({weights}, {taken}, {rows}, 0, {products.count}, share)"]


def _one_products(taken: str, products: TransposedProducts) -> list[str]:
    row = products.row or 0
    if products.count > 1 and row == products.column:
        high = row + products.count
        gates = f"range({high})" if row == 0 else f"range({row}, {high})"
        return [f"for gate in {gates}:", f"    add_gate(dV, gate, {products.array}, gate, {taken})"]
    return [
        f"add_gate(dV, {products.column + i}, {products.array}, {row + i}, {taken})"
        for i in range(products.count)
    ]
