"""Where the values of a cell lie in memory, in kernels for any width and for one unit alike.

=========== ===================================== =====================================
array       on the way there                      on the way back
=========== ===================================== =====================================
``a``       a row of units for each gate: its     the gradient of the projection
            projection, then what `Row` says
states      (T + 1): before and after each step   as on the way there
scratch     of a product that no gate takes:      the gradient of the result
            the result
            of what a product takes, if no state: its gradient, then the value again
            the value, in the first row
            of a vector                           its gradient at each step
``left``    the steps that each clip has left     as on the way there
``mask``    one row for all steps                 as on the way there
=========== ===================================== =====================================
"""

from dataclasses import dataclass, field
from typing import final

from .adjoint import Adjoint, differentiate
from .definition import Cell
from .functions import FUNCTIONS
from .graph import Node, consumers
from .places import while_left
from .writer import Names


@final
@dataclass
class Row:
    """The rows of one gate: ``activation`` is what they hold in the end, if anything.

    ``total`` is the sum that the projection is part of, ``products`` those that can be added to the
    rows at once, ``rest`` what else is added, with its sign.
    """

    gate: str
    input: Node
    total: Node
    activation: Node | None
    products: list[Node] = field(default_factory=list)
    rest: list[tuple[bool, Node]] = field(default_factory=list)


@final
class Layout:
    """The memory of a cell.

    Attributes
    ----------
    rows : list of Row
        One for each gate.
    products : list of Node
        All products, in order of the matrices.
    results, operands, totals : dict
        The name of a scratch array by the index of a product whose result lies there, of what a
        product takes, and by the name of a vector.
    scratch : list of str
        All of them.
    ragged : bool
        Whether the clips of a tile may end before its last step: then their states stay, and no
        gradient comes from behind the end.
    masks : tuple of str
        The mask of recurrent dropout, if there is one.
    """

    def __init__(self, cell: Cell, ragged: bool) -> None:
        self.cell, self.ragged = cell, ragged
        for state, output in zip(cell.states, cell.outputs, strict=True):
            output.label = output.label or f"{state}_new"
        self.adjoint: Adjoint = differentiate(cell)
        self._consumers = consumers(cell.nodes)
        self.products = [node for node in cell.nodes if node.op == "product"]
        self.products.sort(key=lambda node: cell.matrices.index(node.value))
        self.masks = tuple(node.value for node in cell.nodes if node.op == "mask")
        self.inputs = {node.value: node for node in cell.nodes if node.op == "input"}
        self._taken: set[int] = set()
        seeds = [f"{kind}_{state}" for state in cell.states for kind in ("d", "carry")]
        self._names = Names([*cell.states, *cell.vectors, *seeds, "d", "carry"])
        self.rows = [self._row(gate) for gate in cell.gates]
        self.in_place = {p.index: row for row in self.rows for p in row.products}
        self.scratch: list[str] = []
        self.results = {
            p.index: self.add_scratch(p.label or f"p_{p.value}")
            for p in self.products
            if p.index not in self.in_place
        }
        self.operands: dict[int, str] = {}
        for product in self.products:
            operand = product.args[0]
            if operand.op == "state" or operand.index in self.operands:
                continue
            name = operand.label or f"m_{product.value}"
            if operand in cell.outputs:
                name = f"back_{cell.states[cell.outputs.index(operand)]}"
            self.operands[operand.index] = self.add_scratch(name)
        self.totals: dict[str, str] = {}
        for name, gradient in self.adjoint.vectors.items():
            if self.gradient_row(gradient) is None:
                self.totals[name] = self.add_scratch(f"s_{name}")

    def while_left(self, template: str, otherwise: str = "zeros(a)") -> str:
        """Return a template that gives another value where a clip has ended, if clips may."""
        return while_left(template, otherwise) if self.ragged else template

    def add_scratch(self, name: str) -> str:
        """Return the name of a scratch array more, like this one."""
        self.scratch.append(self._names.fresh(name))
        return self.scratch[-1]

    def _row(self, gate: str) -> Row:
        total = self.inputs[gate]
        parts: list[tuple[bool, Node]] = []
        while (above := self._only_consumer(total)) is not None and above.op in ("add", "sub"):
            if above.op == "sub" and above.args[0] is not total:
                break
            other = above.args[1] if above.args[0] is total else above.args[0]
            if other is total:
                break
            parts += _parts(other, above.op == "add", self._only_consumer)
            total = above
        activation = self._only_consumer(total)
        if activation is not None:
            known = FUNCTIONS.get(activation.op)
            one = len(activation.args) == 1 and activation.index not in self._taken
            if known is None or not known.from_result or not one or activation.op == "step":
                activation = None
        row = Row(gate, self.inputs[gate], total, activation)
        for positive, part in parts:
            free = part.op == "product" and part.index not in self._taken
            if free and positive and self._only_consumer(part) is not None:
                row.products.append(part)
            else:
                row.rest.append((positive, part))
        self._taken |= {p.index for p in row.products}
        if activation is not None:
            self._taken.add(activation.index)
        return row

    def _only_consumer(self, node: Node) -> Node | None:
        found = self._consumers[node.index]
        return found[0] if len(found) == 1 and node not in self.cell.outputs else None

    def gradient_row(self, gradient: Node) -> tuple[str, int | None] | None:
        """Return array and gate (None in a scratch array) of a gradient that is kept, if it is."""
        for k, gate in enumerate(self.cell.gates):
            if self.adjoint.inputs[gate] is gradient:
                return "a", k
        for product, above in self.adjoint.products:
            if above is gradient:
                return self.results[product.index], None
        return None

    def held_activation(self, row: Row) -> Node | None:
        """Return the activation if it is written to the row: not one that is kept as a state."""
        return None if row.activation in self.cell.outputs else row.activation


def _parts(node: Node, positive: bool, only_consumer: object) -> list[tuple[bool, Node]]:
    """Return the parts of a sum that nobody else takes, with their signs."""
    if node.op not in ("add", "sub") or only_consumer(node) is None:  # type: ignore[operator]
        return [(positive, node)]
    left, right = node.args
    return [
        *_parts(left, positive, only_consumer),
        *_parts(right, positive == (node.op == "add"), only_consumer),
    ]
