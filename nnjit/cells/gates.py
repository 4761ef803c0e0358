"""The gates of a cell by the names of the field, and cells with other activations of gates."""

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
# What a gate is called whose letter is that of most papers; any other gate has its own name alone.
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
    """Return the gates of a cell by name: ``{"update": "z", ...}``; no name stands for two."""
    found: dict[str, str] = {}
    for gate in cell.gates:
        name = ROLES.get(gate, gate)
        found[gate if name in found or name in cell.gates else name] = gate
    return found


def find_gate(cell: Cell, name: str) -> str | None:
    """Return a gate from its name, or from how the equations write it; None where there is none."""
    return name if name in cell.gates else named_gates(cell).get(name)


def activations(cell: Cell) -> dict[str, Node]:
    """Return by gate the function of the sum that the input projection is part of.

    A gate has none where its sum is multiplied, kept as a state or used several times.
    """
    used, found = consumers(cell.nodes), {}
    for node in cell.nodes:
        if node.op != "input":
            continue
        gate = node.value
        while len(used[node.index]) == 1 and node not in cell.outputs:
            node = used[node.index][0]
            if node.op not in ("add", "sub"):
                break
        if node.op in PUBLIC and len(node.args) == 1:
            found[gate] = node
    return found


def with_activations(cell: Cell, chosen: Mapping[str, str | None]) -> Cell:
    """Return a cell with other activations of some gates.

    Parameters
    ----------
    chosen
        An activation of `ACTIVATIONS` by gate, which is named as `named_gates` or the equations do;
        None leaves what the equations say.

    Raises
    ------
    CellError
        Where there is no such gate or activation, or the gate has none that could be replaced.
    """
    held, ops = activations(cell), dict[int, str]()
    for name, op in chosen.items():
        if op is None:
            continue
        gate = find_gate(cell, name)
        if gate not in held or op not in ACTIVATIONS:
            raise CellError(f"activations.{short(name)}={short(op)}: {_choices(cell, held)}")
        if held[gate].op != op:
            ops[held[gate].index] = op
    if not ops:
        return cell

    def change(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node | None:
        op = ops.get(node.index)
        return args[0] if op == "identity" else graph.make(op, *args) if op else None

    return rebuild(cell, change)


def _choices(cell: Cell, held: Mapping[str, Node]) -> str:
    """Return which gates of a cell have an activation that can be chosen, and which there are."""
    known = [name for name, gate in named_gates(cell).items() if gate in held]
    if not known:
        return f"no gate of {cell.name} has an activation of its own"
    gates = f"the gates of {cell.name} that have an activation are {', '.join(known)}"
    return f"{gates}; the activations are {', '.join(ACTIVATIONS)}"
