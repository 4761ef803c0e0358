"""``python -m benchmarks --against REV``: the working tree and another commit, on one machine.

Both run in processes of their own, new ones for each round. They take turns at every task, each
first as often as the other (this, that, that, this), and the best call of each counts: a load that
comes and goes meets both, and what it slowed down is dropped.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from .task import Step

ROOT = Path(__file__).parent.parent


@final
class Worker:
    """A process that times steps with the nnjit of a folder."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        script = Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def seconds(self, step: Step, budget: float) -> float:
        """Return the seconds of the best call; RuntimeError where the process ended."""
        _pipe(self._process.stdin).write(
            json.dumps({"step": asdict(step), "budget": budget}) + "\n"
        )
        _pipe(self._process.stdin).flush()
        answer = _pipe(self._process.stdout).readline()
        if not answer:
            raise RuntimeError(f"the process that times {step.name} ended: see its message above")
        return float(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        self._process.wait()
        _pipe(self._process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextmanager
def worktree(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """Check a commit out into a temporary folder, and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="nnjit-against-") as folder:
        place = Path(folder).resolve() / "tree"
        git = ["git", "-C", str(root), "worktree"]
        made = subprocess.run(
            [*git, "add", "--detach", str(place), revision], capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(f"--against={revision}: {made.stderr.strip().splitlines()[-1]}")
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def compare(here: Path, there: Path, steps: list[Step], budget: float, rounds: int) -> list[Any]:
    """Return a row for each step: the best seconds of both, and how many times faster here is."""
    best = {step.name: {"here": np.inf, "there": np.inf} for step in steps}
    for number in range(rounds):
        with ExitStack() as stack:
            workers = {"here": Worker(here), "there": Worker(there)}
            for worker in workers.values():
                stack.callback(worker.close)
            for i, step in enumerate(steps):
                order = ["here", "there"] if (i + number) % 2 else ["there", "here"]
                for side in [*order, *reversed(order)]:
                    taken = workers[side].seconds(step, budget / (2 * rounds))
                    best[step.name][side] = min(best[step.name][side], taken)
        print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    return [{"task": name, **b, "ratio": b["there"] / b["here"]} for name, b in best.items()]


def summary(rows: list[Any]) -> str:
    """Return the ratio of each step in words, their geometric mean and the lowest."""
    lines = [
        f"{row['task']:36} {row['there'] * 1e3:10.3f} -> {row['here'] * 1e3:10.3f} ms  "
        f"{row['ratio']:6.3f} x"
        for row in rows
    ]
    mean = float(np.exp(np.mean([np.log(row["ratio"]) for row in rows])))
    lowest = min(rows, key=lambda row: float(row["ratio"]))
    return "\n".join(
        [*lines, f"geometric mean {mean:.3f}, lowest {lowest['ratio']:.3f} ({lowest['task']})"]
    )


def run(revision: str, steps: list[Step], budget: float, rounds: int, out: Path | None) -> None:
    """Compare the working tree with a commit; print the ratios, and write them where told."""
    if not steps:
        sys.exit("no task of the grid is chosen: see --only, --sizes and --batches")
    print(f"{len(steps)} tasks, load {os.getloadavg()[0]:.1f}; above 1 x is faster now", flush=True)
    with worktree(revision) as there:
        rows = compare(ROOT, there, steps, budget, rounds)
    print(summary(rows))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"against": revision, "rows": rows}, indent=1)
        (out / "against.json").write_text(text)
