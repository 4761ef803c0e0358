"""The way back of a cell: gradients as values of the same graph.

What a value receives is a sum of terms, each a product whose first factor is the gradient that
comes from above; terms with the same first factor are taken together, ``d * old - d * g`` as
``d * (old - g)``.
"""

from dataclasses import dataclass, field
from typing import final

from .definition import Cell
from .functions import FUNCTIONS
from .graph import Graph, Node


@final
@dataclass(frozen=True)
class Term:
    """A product with a sign: what a value receives from one of its consumers."""

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
    """The gradients of one step backwards; values of the cell's own graph.

    Attributes
    ----------
    inputs : dict
        By gate, the gradient of its input projection.
    states : dict
        By state, the terms of the gradient of the state before the step.
    products : list of (Node, Node)
        Each product of the step, and the gradient of its result.
    turned : dict
        By the index of what products take (states are not among them), what it receives of them.
    vectors : dict
        By name, the gradient of each vector of weights at this step.
    """

    inputs: dict[str, Node] = field(default_factory=dict)
    states: dict[str, list[Term]] = field(default_factory=dict)
    products: list[tuple[Node, Node]] = field(default_factory=list)
    turned: dict[int, Node] = field(default_factory=dict)
    vectors: dict[str, Node] = field(default_factory=dict)

    def state(self, graph: Graph, name: str) -> Node:
        """Return the whole gradient of a state before the step."""
        return total(graph, self.states[name])


def differentiate(cell: Cell) -> Adjoint:
    """Return the gradients from those of the states after the step, which are ``seed`` nodes."""
    graph, found = cell.graph, Adjoint()
    terms: dict[int, list[Term]] = {node.index: [] for node in cell.nodes}
    for state, output in zip(cell.states, cell.outputs, strict=True):
        terms[output.index].append(Term(True, (graph.make("seed", value=state),)))
    operands = {node.args[0].index for node in cell.nodes if node.op == "product"}
    for node in reversed(cell.nodes):
        received = terms[node.index]
        if node.op == "state" or node.index in operands:  # others read what their sums received
            received = _merged(graph, received)
        if received and _is_turned(received[-1]) and node.index in operands and node.op != "state":
            found.turned[node.index] = received[-1].factors[0]
        if node.op == "state":
            found.states[node.value] = received
            continue
        if not received or node.op in ("number", "mask"):
            if node.op == "input":
                found.inputs[node.value] = graph.make("number", value=0.0)
            continue
        positive, gradient = _signed(graph, received)
        if positive and not gradient.label and gradient.args:
            gradient.label = f"d_{node.label}" if node.label else ""
        if node.op == "input":
            found.inputs[node.value] = gradient if positive else -gradient
        elif node.op == "vector":
            found.vectors[node.value] = gradient if positive else -gradient
        elif node.op == "product":
            gradient = gradient if positive else -gradient
            found.products.append((node, gradient))
            back = graph.make("turned", gradient, value=(node.value,))
            terms[node.args[0].index].append(Term(True, (back,)))
        else:
            local = [part for part in local_derivatives(node) if part[0].op != "number"]
            alone = len(received) == len(local) == 1
            above = received[0].factors if alone else (gradient,)
            for arg, sign, factors in local:
                terms[arg.index].append(Term(sign == positive, (*above, *factors)))
    for state in cell.states:
        found.states.setdefault(state, [])
    for gate, gradient in found.inputs.items():
        if gradient.args:
            gradient.label = f"d_{gate}"
    for operand, turned in found.turned.items():
        turned.label = f"d_{graph.nodes[operand].label or 'm'}"
    return found


def _is_turned(term: Term) -> bool:
    return term.positive and len(term.factors) == 1 and term.factors[0].op == "turned"


def _merged(graph: Graph, terms: list[Term]) -> list[Term]:
    """Return the terms with all products of transposed matrices as one, the last."""
    turned = [term.factors[0] for term in terms if _is_turned(term)]
    if not turned:
        return terms
    names = tuple(name for node in turned for name in node.value)
    one = graph.make("turned", *[arg for node in turned for arg in node.args], value=names)
    return [term for term in terms if not _is_turned(term)] + [Term(True, (one,))]


def local_derivatives(node: Node) -> list[tuple[Node, bool, list[Node]]]:
    """Return for each argument the sign and the factors of the derivative."""
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
    """Return the sum of terms, those of one first factor taken together."""
    if not terms:
        return graph.make("number", value=0.0)
    groups: dict[int, list[Term]] = {}
    for term in terms:
        groups.setdefault(term.factors[0].index, []).append(term)
    parts: list[tuple[bool, Node]] = []
    for group in groups.values():
        if len(group) > 1 and all(len(term.factors) > 1 for term in group):
            rest = _sum([(term.positive, term.product(1)) for term in group])
            parts.append((True, group[0].factors[0] * rest))
        else:
            parts += [(term.positive, term.product()) for term in group]
    return _sum(parts)


def _sum(parts: list[tuple[bool, Node]]) -> Node:
    """Add from left to right, what is subtracted last."""
    ordered = sorted(parts, key=lambda part: not part[0])  # a stable sort
    positive, out = ordered[0]
    out = out if positive else -out
    for sign, part in ordered[1:]:
        out = out + part if sign else out - part
    return out
