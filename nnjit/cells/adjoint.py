"""Reverse-mode differentiation of a cell: gradients as values of the same graph.

The gradient of a value is a sum of terms, each a product whose first factor is the gradient of a
consumer. Terms with the same first factor are joined: ``d * old - d * g`` is ``d * (old - g)``.
"""

from dataclasses import dataclass, field
from typing import final

from .definition import Cell
from .functions import FUNCTIONS
from .graph import Graph, Node


@final
@dataclass(frozen=True)
class Term:
    """A product with a sign: the part of a gradient that comes from one consumer."""

    positive: bool
    factors: tuple[Node, ...]

    def product(self, skip: int = 0) -> Node:
        """Return the factors, from ``skip`` on, multiplied from left to right."""
        out = self.factors[skip]
        for factor in self.factors[skip + 1 :]:
            out = out * factor
        return out


@final
@dataclass(frozen=True)
class Adjoint:
    """The gradients of one step, as values of the cell's graph.

    Attributes
    ----------
    inputs : dict
        By gate, the gradient of its input projection.
    states : dict
        By state, the terms of the gradient of the state before the step.
    products : list of (Node, Node)
        Each product of the step, and the gradient of its result.
    operands : dict
        By the index of an operand of products that is no state, the gradient from these products.
    vectors : dict
        By name, the gradient of each vector of weights at this step.
    """

    inputs: dict[str, Node] = field(default_factory=dict)
    states: dict[str, list[Term]] = field(default_factory=dict)
    products: list[tuple[Node, Node]] = field(default_factory=list)
    operands: dict[int, Node] = field(default_factory=dict)
    vectors: dict[str, Node] = field(default_factory=dict)

    def state(self, graph: Graph, name: str) -> Node:
        """Return the gradient of a state before the step."""
        return total(graph, self.states[name])


def differentiate(cell: Cell) -> Adjoint:
    """Return the gradients, given those of the states after the step, the ``seed`` nodes."""
    graph, result = cell.graph, Adjoint()
    terms: dict[int, list[Term]] = {node.index: [] for node in cell.nodes}
    for state, output in zip(cell.states, cell.outputs, strict=True):
        terms[output.index].append(Term(True, (graph.make("seed", value=state),)))
    operands = {node.args[0].index for node in cell.nodes if node.op == "product"}
    for node in reversed(cell.nodes):
        received = terms[node.index]
        if node.op == "state" or node.index in operands:
            received = _merged(graph, received)
        is_operand = node.index in operands and node.op != "state"
        if received and is_operand and _is_transposed(received[-1]):
            result.operands[node.index] = received[-1].factors[0]
        if node.op == "state":
            result.states[node.value] = received
            continue
        if not received or node.op in ("number", "mask"):
            if node.op == "input":
                result.inputs[node.value] = graph.make("number", value=0.0)
            continue
        positive, gradient = _signed(graph, received)
        if positive and not gradient.label and gradient.args:
            gradient.label = f"d_{node.label}" if node.label else ""
        if node.op == "input":
            result.inputs[node.value] = gradient if positive else -gradient
        elif node.op == "vector":
            result.vectors[node.value] = gradient if positive else -gradient
        elif node.op == "product":
            gradient = gradient if positive else -gradient
            result.products.append((node, gradient))
            back = graph.make("transposed", gradient, value=(node.value,))
            terms[node.args[0].index].append(Term(True, (back,)))
        else:
            local = [entry for entry in local_derivatives(node) if entry[0].op != "number"]
            single = len(received) == len(local) == 1
            above = received[0].factors if single else (gradient,)
            for arg, sign, factors in local:
                terms[arg.index].append(Term(sign == positive, (*above, *factors)))
    for state in cell.states:
        result.states.setdefault(state, [])
    for gate, gradient in result.inputs.items():
        if gradient.args:
            gradient.label = f"d_{gate}"
    for operand, gradient in result.operands.items():
        gradient.label = f"d_{graph.nodes[operand].label or 'm'}"
    return result


def _is_transposed(term: Term) -> bool:
    return term.positive and len(term.factors) == 1 and term.factors[0].op == "transposed"


def _merged(graph: Graph, terms: list[Term]) -> list[Term]:
    """Return the terms with all products with transposed matrices joined into the last term."""
    nodes = [term.factors[0] for term in terms if _is_transposed(term)]
    if not nodes:
        return terms
    names = tuple(name for node in nodes for name in node.value)
    joined = graph.make("transposed", *[arg for node in nodes for arg in node.args], value=names)
    return [term for term in terms if not _is_transposed(term)] + [Term(True, (joined,))]


def local_derivatives(node: Node) -> list[tuple[Node, bool, list[Node]]]:
    """Return, for each argument, the argument, the sign and the factors of the derivative."""
    x, y = node.args[0], node.args[-1]
    if node.op == "add":
        return [(x, True, []), (y, True, [])]
    if node.op == "sub":
        return [(x, True, []), (y, False, [])]
    if node.op == "neg":
        return [(x, False, [])]
    if node.op == "mul":
        return [(x, True, [y]), (y, True, [x])]
    if node.op == "div":
        return [(x, True, [1 / y]), (y, False, [node, 1 / y])]
    if node.op in ("maximum", "minimum"):
        first = node.graph.make("step", x - y if node.op == "maximum" else y - x)
        return [(x, True, [first]), (y, True, [1 - first])]
    if node.op == "step":
        return []
    return [(x, True, FUNCTIONS[node.op].slope(x, node))]


def _signed(graph: Graph, terms: list[Term]) -> tuple[bool, Node]:
    """Return the sum of terms as a sign and a value."""
    if any(term.positive for term in terms):
        return True, total(graph, terms)
    flipped = [Term(True, term.factors) for term in terms]
    return False, total(graph, flipped)


def total(graph: Graph, terms: list[Term]) -> Node:
    """Return the sum of terms, with a common first factor taken out."""
    if not terms:
        return graph.make("number", value=0.0)
    groups: dict[int, list[Term]] = {}
    for term in terms:
        groups.setdefault(term.factors[0].index, []).append(term)
    summands: list[tuple[bool, Node]] = []
    for group in groups.values():
        if len(group) > 1 and all(len(term.factors) > 1 for term in group):
            factor = _sum([(term.positive, term.product(1)) for term in group])
            summands.append((True, group[0].factors[0] * factor))
        else:
            summands += [(term.positive, term.product()) for term in group]
    return _sum(summands)


def _sum(summands: list[tuple[bool, Node]]) -> Node:
    """Add from left to right, the negative summands last."""
    ordered = sorted(summands, key=lambda summand: not summand[0])  # a stable sort
    positive, out = ordered[0]
    out = out if positive else -out
    for positive, node in ordered[1:]:
        out = out + node if positive else out - node
    return out
