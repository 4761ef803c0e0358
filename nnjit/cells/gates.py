"""The common names of a cell's gates, and cells with other activations of gates."""

from collections.abc import Mapping

from ..errors import CellError, short
from .definition import Cell
from .functions import PUBLIC
from .graph import Graph, Node, consumers
from .rewrite import rebuild

ACTIVATIONS = (
    *("identity", "relu", "leaky_relu", "elu", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh"),
    *("softsign", "softplus"),
)
# The common names of gates by the letters that most papers use; other gates have only their own.
ROLES = {
    "z": "update",
    "r": "reset",
    "i": "input",
    "f": "forget",
    "o": "output",
    "g": "candidate",
    "h": "candidate",
}


def named_gates(cell: Cell) -> dict[str, str]:
    """Return the gates of a cell by name: ``{"update": "z", ...}``; names are unique."""
    gates: dict[str, str] = {}
    for gate in cell.gates:
        name = ROLES.get(gate, gate)
        gates[gate if name in gates or name in cell.gates else name] = gate
    return gates


def find_gate(cell: Cell, name: str) -> str | None:
    """Return the gate with this name, common or from the equations; None if there is none."""
    return name if name in cell.gates else named_gates(cell).get(name)


def activations(cell: Cell) -> dict[str, Node]:
    """Return by gate the function that is applied to the sum with its input projection.

    A gate has none if its sum is multiplied, is a state or is used several times.
    """
    used, nodes = consumers(cell.nodes), {}
    for node in cell.nodes:
        if node.op != "input":
            continue
        gate = node.value
        while len(used[node.index]) == 1 and node not in cell.outputs:
            node = used[node.index][0]
            if node.op not in ("add", "sub"):
                break
        if node.op in PUBLIC and len(node.args) == 1:
            nodes[gate] = node
    return nodes


def with_activations(cell: Cell, chosen: Mapping[str, str | None]) -> Cell:
    """Return a cell with other activations of some gates.

    Parameters
    ----------
    chosen
        An activation of `ACTIVATIONS` by gate, named as in `named_gates` or in the equations; None
        keeps that of the equations.

    Raises
    ------
    CellError
        If there is no such gate or activation, or the gate has none that could be replaced.
    """
    nodes, ops = activations(cell), dict[int, str]()
    for name, op in chosen.items():
        if op is None:
            continue
        gate = find_gate(cell, name)
        if gate not in nodes or op not in ACTIVATIONS:
            raise CellError(f"activations.{short(name)}={short(op)}: {_choices(cell, nodes)}")
        if nodes[gate].op != op:
            ops[nodes[gate].index] = op
    if not ops:
        return cell

    def change(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node | None:
        op = ops.get(node.index)
        return args[0] if op == "identity" else graph.make(op, *args) if op else None

    return rebuild(cell, change)


def _choices(cell: Cell, nodes: Mapping[str, Node]) -> str:
    """Return, for a message, the gates whose activation can be chosen, and the activations."""
    known = [name for name, gate in named_gates(cell).items() if gate in nodes]
    if not known:
        return f"no gate of {cell.name} has an activation that can be chosen"
    gates = f"the gates of {cell.name} that have an activation are {', '.join(known)}"
    return f"{gates}; the activations are {', '.join(ACTIVATIONS)}"
