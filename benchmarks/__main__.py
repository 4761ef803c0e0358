"""``python -m benchmarks``: time the recipes and the grid against whatever peer is installed."""

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nnjit.runtime.threads import set_threads

from . import against, tables
from .bounds import bounds
from .clock import seconds
from .report import markdown, plot
from .task import CELLS, RECIPES, Side, Step

SIDES = ("nnjit", "torch", "jax")
HERE = Path(__file__).parent


def sides() -> dict[str, Side]:
    found: dict[str, Any] = {}
    for name in SIDES:
        try:
            found[name] = importlib.import_module(f".{name}_side", __package__)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def measure(
    name: str, calls: dict[str, Callable[[], Callable[[], None]]], budget: float, rounds: int = 3
) -> dict[str, Any]:
    """Time all sides of one task in turn, several rounds, and keep the best and the median."""
    ready = {side: make() for side, make in calls.items()}
    taken: dict[str, list[float]] = {side: [] for side in ready}
    for _ in range(rounds):
        for side, call in ready.items():
            taken[side] += seconds(call, budget / rounds, 200)
    row: dict[str, Any] = {"task": name}
    for side, values in taken.items():
        row[side] = {"best": min(values), "median": float(np.median(values)), "n": len(values)}
    peers = {side: row[side]["best"] for side in taken if side != SIDES[0]}
    if peers:
        row["speedup"] = {side: best / row["nnjit"]["best"] for side, best in peers.items()}
    shown = "  ".join(f"{side} {row[side]['best'] * 1e3:9.3f} ms" for side in ready)
    ratios = "  ".join(f"{r:7.1f} x {side}" for side, r in row.get("speedup", {}).items())
    print(f"{name:40} {shown}   {ratios}", flush=True)
    return row


def grid(sizes: Iterable[int], batches: Iterable[int]) -> list[Step]:
    return [
        Step(cell, H, N, codes, training)
        for training in (True, False)
        for codes in (True, False)
        for cell in CELLS
        for H in sizes
        for N in batches
    ]


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", default=["recipes", "grid"], help="recipes, grid")
    parser.add_argument("--sizes", default="1,8,32,128,512", help="hidden sizes of the grid")
    parser.add_argument("--batches", default="16,64", help="batch sizes of the grid")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each side and task")
    parser.add_argument("--only", default="", help="only tasks whose name holds this text")
    parser.add_argument("--sides", default=",".join(SIDES), help="which sides, nnjit first")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and .md")
    parser.add_argument("--against", metavar="REV", help="compare nnjit's grid with that commit's")
    parser.add_argument("--rounds", type=int, default=3, help="of --against, new processes each")
    options = parser.parse_args()
    began = time.perf_counter()
    sizes, batches = ([int(n) for n in v.split(",")] for v in (options.sizes, options.batches))
    chosen = [step for step in grid(sizes, batches) if options.only in step.name]
    if options.against:
        out = None if options.out == HERE else options.out
        against.run(options.against, chosen, options.budget, options.rounds, out)
        print(f"took {(time.perf_counter() - began) / 60:.1f} minutes")
        return

    threads = set_threads()
    found = {name: side for name, side in sides().items() if name in options.sides.split(",")}
    about = {**machine(), "threads": threads, **{n: s.version() for n, s in found.items()}}
    print("  ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    tasks: list[tuple[str, dict[str, Any]]] = []
    steps: list[Step] = []
    if "recipes" in options.what:
        for r in RECIPES:
            calls = {n: (lambda s=s, r=r: s.epoch(r)) for n, s in found.items()}
            tasks.append((f"epoch of {r.name}", calls))
    if "grid" in options.what:
        steps = chosen
        for step in steps:
            calls = {n: (lambda s=s, step=step: s.step(step)) for n, s in found.items()}
            tasks.append((step.name, calls))
    rows = [measure(name, calls, options.budget) for name, calls in tasks if options.only in name]
    if steps and "nnjit" in found:
        least = bounds(steps, found["nnjit"].step)
        for row in rows:
            if row["task"] in least:
                row["bound"] = least[row["task"]]
    result = {"machine": about, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(result, indent=1))
    (options.out / "results.md").write_text(markdown(result))
    if any("speedup" in row for row in rows):
        plot(result).savefig(options.out / "speedup.png", dpi=110)
    print(f"wrote results.json, results.md and speedup.png to {options.out}")
    if options.out.resolve() == HERE:
        tables.write()
    print(f"took {(time.perf_counter() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
