"""Expressions that read and write the arrays of a kernel, and the loop over tiles and units."""

from typing import final

from .graph import Node
from .writer import indented


def rows_of(k: int, offset: str) -> str:
    """Return the index of unit ``offset`` among the rows of gate k."""
    return offset if k == 0 else f"H + {offset}" if k == 1 else f"{k} * H + {offset}"


def columns(array: str, axes: str, low: int, high: int) -> str:
    """Return the expression for the columns of gates low to high of an array."""
    begin = {0: "", 1: "H "}.get(low, f"{low} * H ")
    end = "H" if high == 1 else f"{high} * H"
    return f"{array}[{axes}{begin}: {end}]"


@final
class UnitRow:
    """The row of lanes that belongs to unit j in an array, at one step and for gate k."""

    def __init__(self, array: str, time: str, k: int = 0) -> None:
        self.array, self.time, self.k = array, time, k

    @property
    def load(self) -> str:
        """The expression that reads it."""
        return f"load({self.array}, n, {self.time}, {rows_of(self.k, 'j')})"

    @property
    def store(self) -> str:
        """The template of the statement that writes it."""
        return f"store({self.array}, n, {self.time}, {rows_of(self.k, 'j')}, {{}})"


def leaf(node: Node) -> str | None:
    """Return the expression that reads a state, a vector or a mask; None for another value."""
    if node.op == "vector":
        return f"{node.value}[j]"
    if node.op in ("state", "mask"):
        return UnitRow(str(node.value), "t" if node.op == "state" else "0").load
    return None


def while_left(template: str, otherwise: str) -> str:
    """Return a template that gives ``otherwise`` in the lanes whose clips have ended."""
    return template.replace("{}", f"select(load(left, n, 0, 0), t, {{}}, {otherwise})")


def loop(body: list[str], level: int) -> list[str]:
    """Return the loop over tiles and units around some lines, if there are any."""
    if not body:
        return []
    head = ["for n in range(a.shape[0]):", "    for j in range(begin, end):"]
    return indented(head + indented(body, 2), level)


def carry_of(states: tuple[str, ...], state: str) -> str:
    """Return the name of the array that carries the gradient of a state."""
    return "carry" if state == states[0] else f"carry_{state}"


def seed_name(states: tuple[str, ...], state: str) -> str:
    """Return the variable of the gradient that a state receives from later steps."""
    return "d" if state == states[0] else f"d_{state}"
