"""The arrays that hold the values of a cell, in kernels for any width and for one unit.

=========== ===================================== =====================================
array       in forward                            in backward
=========== ===================================== =====================================
``a``       a row of units for each gate: its     the gradient of the projection
            projection, then the value of `Row`
states      (T + 1): before and after each step   the same
scratch     for a product outside gates' sums:    the gradient of the result
            the result
            for an operand that is no state:      its gradient, then the value again
            the value, in the first row
            for a vector                          its gradient at each step
``left``    the steps that each clip has left     the same
``mask``    one row for all steps                 the same
=========== ===================================== =====================================
"""

from dataclasses import dataclass, field
from typing import final

from .adjoint import Adjoint, differentiate
from .definition import Cell
from .functions import FUNCTIONS
from .graph import Node, consumers
from .indexing import while_left
from .writer import Names


@final
@dataclass
class Row:
    """The rows of one gate; at the end of a step they hold ``activation``, if there is one.

    ``total`` is the sum that includes the projection, ``products`` are the terms of it that can be
    added to the rows in place, ``other_terms`` the other terms with their signs.
    """

    gate: str
    input: Node
    total: Node
    activation: Node | None
    products: list[Node] = field(default_factory=list)
    other_terms: list[tuple[bool, Node]] = field(default_factory=list)


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
        Names of scratch arrays: by the index of a product, for its result; by the index of an
        operand of products; by the name of a vector.
    scratch : list of str
        All scratch arrays.
    ragged : bool
        Whether the clips of a tile may end before its last step. After the end of a clip its states
        do not change, and its gradients are 0.
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
        """Return `while_left` of a template if clips may end early, else the template."""
        return while_left(template, otherwise) if self.ragged else template

    def add_scratch(self, name: str) -> str:
        """Return the name of a new scratch array, similar to ``name``."""
        self.scratch.append(self._names.fresh(name))
        return self.scratch[-1]

    def _row(self, gate: str) -> Row:
        total = self.inputs[gate]
        terms: list[tuple[bool, Node]] = []
        while (above := self._only_consumer(total)) is not None and above.op in ("add", "sub"):
            if above.op == "sub" and above.args[0] is not total:
                break
            other = above.args[1] if above.args[0] is total else above.args[0]
            if other is total:
                break
            terms += _exclusive_terms(other, above.op == "add", self._only_consumer)
            total = above
        activation = self._only_consumer(total)
        if activation is not None:
            known = FUNCTIONS.get(activation.op)
            one = len(activation.args) == 1 and activation.index not in self._taken
            if known is None or not known.from_result or not one or activation.op == "step":
                activation = None
        row = Row(gate, self.inputs[gate], total, activation)
        for positive, term in terms:
            can_add = term.op == "product" and term.index not in self._taken
            if can_add and positive and self._only_consumer(term) is not None:
                row.products.append(term)
            else:
                row.other_terms.append((positive, term))
        self._taken |= {p.index for p in row.products}
        if activation is not None:
            self._taken.add(activation.index)
        return row

    def _only_consumer(self, node: Node) -> Node | None:
        takers = self._consumers[node.index]
        return takers[0] if len(takers) == 1 and node not in self.cell.outputs else None

    def gradient_row(self, gradient: Node) -> tuple[str, int | None] | None:
        """Return array and gate (None: a scratch array) of a gradient that is stored, else None."""
        for k, gate in enumerate(self.cell.gates):
            if self.adjoint.inputs[gate] is gradient:
                return "a", k
        for product, above in self.adjoint.products:
            if above is gradient:
                return self.results[product.index], None
        return None

    def stored_activation(self, row: Row) -> Node | None:
        """Return the activation if it is written to the row; one that is a state is not."""
        return None if row.activation in self.cell.outputs else row.activation


def _exclusive_terms(node: Node, positive: bool, only_consumer: object) -> list[tuple[bool, Node]]:
    """Return the terms of a sum with their signs; a sum with another consumer is one term."""
    if node.op not in ("add", "sub") or only_consumer(node) is None:  # type: ignore[operator]
        return [(positive, node)]
    left, right = node.args
    return [
        *_exclusive_terms(left, positive, only_consumer),
        *_exclusive_terms(right, positive == (node.op == "add"), only_consumer),
    ]
