"""``python -m nnjit.cells`` lists the cells; ``show NAME`` prints gradients and kernels of one."""

import sys
from collections.abc import Sequence

from ..cells.adjoint import differentiate
from ..cells.compiled import kernels
from ..cells.definition import Cell
from ..cells.graph import Node, consumers, reachable
from ..cells.library import CELLS
from ..cells.named import named
from ..cells.text import equations, write
from ..errors import ConfigError
from ..reporting.messages import one_line_errors
from ..runtime.text import say

USAGE = "python -m nnjit.cells, or python -m nnjit.cells show NAME|FILE.py:NAME"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        match list(sys.argv[1:] if arguments is None else arguments):
            case []:
                say(listing())
            case ["-h" | "--help"]:
                say(f"{__doc__}\n\n{USAGE}\n")
            case ["show", name]:
                say(shown(named(name)))
            case others:
                raise ConfigError(f"{' '.join(others)} is no command: {USAGE}")


def listing() -> str:
    """Return a table of the cells of the library."""
    rows: list[tuple[str, ...]] = [("cell", "states", "gates", "matrices", "vectors", "")]
    for name, cell in CELLS.items():
        sizes = (cell.states, cell.gates, cell.matrices, cell.vectors)
        names = (" ".join(entry) or "-" for entry in sizes)
        rows.append((name, *names, cell.doc.split("\n")[0]))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, [*widths, 0], strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def shown(cell: Cell) -> str:
    """Return the equations of a cell, its gradients and the source of its kernels."""
    sections = [cell.doc, equations(cell), gradients(cell), kernels(cell).source.text]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def gradients(cell: Cell) -> str:
    """Return the gradients of gates, vectors and states before the step as text.

    ``d_h`` is the gradient of the state h after the step, including that of the output.
    """
    adjoint = differentiate(cell)
    ends = {f"d_x.{gate}": node for gate, node in adjoint.inputs.items()}
    ends |= {f"d_w.{name}": node for name, node in adjoint.vectors.items()}
    ends |= {f"d_{state}.before": adjoint.state(cell.graph, state) for state in cell.states}
    nodes = reachable([*ends.values(), *(above for _, above in adjoint.products)])
    used, forward = consumers(nodes), {node.index for node in cell.nodes}
    labels = {node.index: node.label for node in cell.nodes if node.label}
    labels |= {node.index: name for name, node in ends.items() if node.args}
    n = 0
    for node in nodes:
        if node.op == "seed":
            labels[node.index] = f"d_{node.value}"
        elif _deserves_a_name(node, len(used[node.index])) and node.index not in {
            *labels,
            *forward,
        }:
            n += 1
            labels[node.index] = f"d{n}"
    lines = [
        f"{labels[node.index]} = {write(node, labels, inside=False)}"
        for node in nodes
        if node.index in labels and node.index not in forward and node.op != "seed"
    ]
    lines += [
        f"d_W.{product.value} += outer({write(product.args[0], labels)}, {write(above, labels)})"
        for product, above in adjoint.products
    ]
    return "\n".join(lines)


def _deserves_a_name(node: Node, uses: int) -> bool:
    """Tell whether a value is used several times and is longer than ``1 - z``."""
    return uses > 1 and any(arg.args for arg in node.args)
