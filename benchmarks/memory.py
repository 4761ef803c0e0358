"""``python -m benchmarks.memory``: peak memory and time of a training step against its length.

A GRU with 64 units reads 16 clips of codes; the longest are ten seconds at 44.1 kHz. Each length is
measured in a process of its own, with checkpoints and, as far as it fits, without.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import tables

HERE = Path(__file__).parent
LENGTHS = (10_000, 44_100, 110_250, 220_500, 441_000)
MOST_KEPT = 110_250  # steps; all gates of more would take gigabytes
HIDDEN, BATCH, LEVELS = 64, 16, 16


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(n_steps: int, checkpoint: str) -> dict[str, Any]:
    """Time the best of three steps after one. Memory counts everything, Python and imports too."""
    import nnjit
    from nnjit.layers import Bptt

    model = nnjit.Sequential([nnjit.GRU(HIDDEN), nnjit.Dense(2, "softmax")])
    codes = np.random.default_rng(0).integers(0, LEVELS, (BATCH, n_steps), np.uint8)
    labels = np.arange(BATCH) % 2
    trainer = nnjit.Trainer(nnjit.Adam(), epochs=4, bptt=Bptt(checkpoint))
    model.build(nnjit.Codes(n_steps, LEVELS))
    before = peak_mb()
    history = trainer.fit(model, {"train": (codes, labels)})
    seconds = min(epoch.train_seconds for epoch in history.epochs[1:])
    return {"T": n_steps, "checkpoint": checkpoint, "mb": peak_mb(), "base": before, "s": seconds}


def main() -> None:
    rows = []
    for checkpoint in ("auto", "off"):
        for n_steps in LENGTHS if checkpoint == "auto" else LENGTHS[: LENGTHS.index(MOST_KEPT) + 1]:
            command = [sys.executable, "-m", __spec__.name, str(n_steps), checkpoint]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            rows.append(row)
            print(
                f"T {n_steps:7}  checkpoint {checkpoint:4}  {row['mb']:6.0f} MB in all, "
                f"{row['mb'] - row['base']:6.0f} MB of training  {row['s']:7.3f} s a step",
                flush=True,
            )
    (HERE / "memory.json").write_text(json.dumps(rows, indent=1))
    plot(rows).savefig(HERE / "memory.png", dpi=110)
    tables.write()


def plot(rows: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="tight")
    for axis, key, label in zip(
        figure.subplots(1, 2), ("mb", "s"), ("peak memory, MB", "seconds for a step"), strict=True
    ):
        for checkpoint in ("auto", "off"):
            chosen = [row for row in rows if row["checkpoint"] == checkpoint]
            points = [row["T"] for row in chosen], [row[key] for row in chosen]
            axis.loglog(*points, ".-", label=f"checkpoint={checkpoint}")
        axis.set(xlabel="time steps", ylabel=label)
        axis.grid(alpha=0.3)
    figure.axes[0].axhline(500, color="0.5", linestyle=":", linewidth=1)
    figure.axes[0].legend()
    return figure


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(one(int(sys.argv[1]), sys.argv[2])))
    else:
        main()
