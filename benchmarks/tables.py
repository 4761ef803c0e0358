"""``python -m benchmarks.tables``: write the figures of the last benchmark into the pages.

README.md and pages of docs/ have places marked ``<!-- benchmark: NAME -->`` to ``<!-- end -->``.
What stands there is made from the JSON files of this folder, and from nothing else.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .report import NAMES, PEERS, markdown, ratio

HERE = Path(__file__).parent
PAGES = [HERE.parent / name for name in ("README.md", "docs/speed.md", "docs/cells.md")]
RECIPES = {
    "ff": "Dense (seed_ff)",
    "rnn": "RNN 1 (seed_rnn)",
    "gru": "GRU 1 (seed_gru)",
    "lstm": "LSTM 1",
}
CELLS, SIZES, BATCHES = ("rnn", "gru", "lstm"), (1, 8, 32, 128, 512), (16, 64)
_PLACE = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


class Results:
    """The rows of results.json by task, and those of the other files."""

    def __init__(self, folder: Path = HERE) -> None:
        self.whole: dict[str, Any] = json.loads((folder / "results.json").read_text())
        self.rows = {row["task"]: row for row in self.whole["rows"]}
        self.memory: list[dict[str, Any]] = json.loads((folder / "memory.json").read_text())
        self.cells: dict[str, Any] = json.loads((folder / "cells.json").read_text())
        self.ragged: dict[str, Any] = json.loads((folder / "ragged.json").read_text())

    def epoch(self, name: str) -> dict[str, Any]:
        """Return the row of an epoch of a recipe."""
        return self.rows[f"epoch of {name}"]

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the grid: one layer on one batch."""
        return {name: row for name, row in self.rows.items() if " H=" in name}

    def step(self, cell: str, size: int, batch: int, kind: str, mode: str) -> dict[str, Any]:
        """Return the row of a cell of the grid."""
        return self.rows[f"{cell} H={size} N={batch} {kind} {mode}"]

    def missing(self) -> list[str]:
        """Return the tasks that the pages need and that were not measured against both peers."""
        needed = [f"epoch of {name}" for name in RECIPES] + [
            f"{cell} H={size} N={batch} {kind} {mode}"
            for cell in CELLS
            for size in SIZES
            for batch in BATCHES
            for kind in ("codes", "dense")
            for mode in ("training", "inference")
        ]
        return [n for n in needed if not all(p in self.rows.get(n, {}) for p in ("nnjit", *PEERS))]


def _ms(row: dict[str, Any], side: str) -> float:
    return float(row[side]["best"] * 1e3)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _duration(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{_number(ms)} ms"


def _worst(row: dict[str, Any]) -> float:
    return float(min(row["speedup"].values()))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(results: Results) -> str:
    """Where it was measured, against what."""
    return _measured(results.whole["machine"])


def _measured(about: dict[str, Any]) -> str:
    peers = [f"{NAMES[p]} {about[p].replace(', ', ' with ', 1)}" for p in PEERS if p in about]
    return (
        f"Measured in one run on {about['cpu']}, {about['cores']} cores, with Python "
        f"{about['python']};\nnnjit used {about['threads']} threads. The peers: "
        f"{' and '.join(peers)}."
    )


def headline(results: Results) -> str:
    """The first sentence on speed."""
    row = results.epoch("gru")
    ours, torch, jax = (_duration(_ms(row, side)) for side in ("nnjit", *PEERS))
    return (
        "One epoch of a GRU with one unit, 10 batches of 16 clips of 10,000 samples, takes\n"
        f"{ours} with nnjit, {torch} with PyTorch and {jax} with JAX on the same machine."
    )


def epochs(results: Results) -> str:
    """Time of an epoch of each recipe."""
    rows = []
    for name, shown in RECIPES.items():
        row = results.epoch(name)
        times = [_number(_ms(row, side)) for side in ("nnjit", *PEERS)]
        rows.append([shown, *times, *(ratio(row["speedup"][peer]) for peer in PEERS)])
    head = ["one epoch", "nnjit ms", *(f"{NAMES[p]} ms" for p in PEERS)]
    return _table([*head, *(f"x {NAMES[p]}" for p in PEERS)], rows)


def grid(results: Results, batches: Iterable[int] = BATCHES) -> str:
    """How many times faster than the faster peer, for codes."""
    rows = [
        [
            f"{cell.upper()}, {mode}, batch {batch}",
            *(ratio(_worst(results.step(cell, size, batch, "codes", mode))) for size in SIZES),
        ]
        for mode in ("training", "inference")
        for cell in CELLS
        for batch in batches
    ]
    head = ["x the faster peer", f"H={SIZES[0]}", *map(str, SIZES[1:])]
    return _table(head, rows)


def grid16(results: Results) -> str:
    """The same at batch 16 alone."""
    return grid(results, (16,))


def counts(results: Results) -> str:
    """How many cells of the grid are won, and by how much."""
    worst = [_worst(row) for row in results.steps().values()]
    twice, less = sum(w >= 2 for w in worst), sum(1 <= w < 2 for w in worst)
    slower = sum(w < 1 for w in worst)
    return (
        f"Of the {len(worst)} cells of the whole grid (codes and signals, training and inference)\n"
        f"nnjit is at least twice as fast as the faster peer in {twice}, faster by less in "
        f"{less},\nand slower in {slower}."
    )


def least(results: Results) -> str:
    """The cells where it wins least, or loses."""
    found = sorted(results.steps().items(), key=lambda item: _worst(item[1]))[:12]
    rows = []
    for name, row in found:
        peer = min(PEERS, key=lambda p: row[p]["best"])
        bound = row["bound"]["seconds"]
        rows.append(
            [
                name,
                _number(_ms(row, "nnjit")),
                f"{NAMES[peer]} {_number(_ms(row, peer))}",
                ratio(_worst(row)),
                f"{row['nnjit']['best'] / bound:.2f}",
                f"{row[peer]['best'] / bound:.2f}",
            ]
        )
    head = ["task", "nnjit ms", "faster peer, ms", "x", "nnjit / bound", "peer / bound"]
    return _table(head, rows)


def bounds(results: Results) -> str:
    """How many times as long as the machine's bound a step takes, for codes."""
    rows = []
    for mode in ("training", "inference"):
        for batch in BATCHES:
            cells = []
            for size in SIZES:
                taken = [results.step(c, size, batch, "codes", mode) for c in CELLS]
                ratios = [row["nnjit"]["best"] / row["bound"]["seconds"] for row in taken]
                cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
            rows.append([f"{mode}, batch {batch}", *cells])
    return _table(["time / bound", f"H={SIZES[0]}", *map(str, SIZES[1:])], rows)


def memory(results: Results) -> str:
    """Memory of a training step by its length, with checkpoints and without."""
    rows = []
    for n_steps in sorted({row["T"] for row in results.memory}):
        by = {row["checkpoint"]: row for row in results.memory if row["T"] == n_steps}
        cells = [f"{n_steps:,}"]
        for checkpoint in ("auto", "off"):
            row = by.get(checkpoint)
            cells += [f"{row['mb'] - row['base']:,.0f}", f"{row['s']:.2f}"] if row else ["", ""]
        rows.append(cells)
    return _table(["steps", "auto MB", "auto s", "off MB", "off s"], rows)


def cells(results: Results) -> str:
    """Your own cells: how many times faster than each peer, by hidden size."""
    rows = {row["task"]: row for row in results.cells["rows"]}
    sizes = list(dict.fromkeys(task.split()[1] for task in rows))
    lines = []
    for mode in ("training", "inference"):
        for name in dict.fromkeys(task.split()[0] for task in rows):
            taken = [rows[f"{name} {size} {mode}"] for size in sizes]
            for peer in taken[0]["speedup"]:
                ratios = [ratio(row["speedup"][peer]) for row in taken]
                lines.append([f"{name}, {mode}", NAMES[peer], *ratios])
    table = _table(["cell", "x", *sizes], lines)
    return f"{_measured(results.cells['machine'])}\n\n{table}"


def ragged(results: Results) -> str:
    """Clips of any length: how much longer they take than clips of one, and the same of PyTorch."""
    rows = []
    for row in results.ragged["rows"]:
        best = {side: row[side]["best"] for side in row["speedup"]} | {
            "nnjit": row["nnjit"]["best"]
        }
        rows.append(
            [
                row["task"],
                _number(best["nnjit"] * 1e3),
                f"{best['nnjit'] / best['nnjit_equal']:.2f}",
                f"{best['torch'] / best['torch_equal']:.2f}",
                ratio(best["torch"] / best["nnjit"]),
            ]
        )
    head = ["a pass over the set", "nnjit ms", "nnjit, any / one length"]
    table = _table([*head, "PyTorch, packed / one length", "x PyTorch, packed"], rows)
    return f"{_measured(results.ragged['machine'])}\n\n{table}"


MAKERS: dict[str, Callable[[Results], str]] = {
    f.__name__: f
    for f in (machine, headline, epochs, grid, grid16, counts, least, bounds, memory, cells, ragged)
}


def filled(page: str, results: Results) -> str:
    """Return a page with its marked places filled; KeyError for a name that does not exist."""
    return _PLACE.sub(lambda m: f"{m[1]}{MAKERS[m[2]](results)}\n{m[3]}", page)


def write() -> None:
    """Fill the pages, and make results.md; leave all as it is where the benchmark was not whole."""
    results = Results()
    if missing := results.missing():
        print(f"README.md and docs/ stay as they are: {len(missing)} tasks were not measured")
        return
    for path in PAGES:
        path.write_text(filled(path.read_text(), results))
        print(f"wrote the figures of {path}")
    (HERE / "results.md").write_text(markdown(results.whole))


if __name__ == "__main__":
    write()
