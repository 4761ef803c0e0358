"""What the benchmarks of single layers share: options, the machine, the file of results."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nnjit.runtime.threads import set_threads

from . import tables
from .__main__ import HERE, machine, measure

Calls = dict[str, Callable[[], Callable[[], Any]]]


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the options of ``python -m benchmarks.NAME``."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    made.add_argument("--sizes", default="1,8,32,128", help="hidden sizes")
    made.add_argument("--budget", type=float, default=1.0, help="seconds for each side and task")
    made.add_argument("--only", default="", help="only tasks whose name holds this text")
    made.add_argument("--out", type=Path, default=HERE, help=f"folder of {name}.json")
    return made


def run(
    name: str,
    options: argparse.Namespace,
    versions: dict[str, str],
    tasks: Iterable[tuple[str, Calls]],
) -> None:
    """Measure tasks; write NAME.json, and the pages where it lies among the benchmarks."""
    began, about = time.perf_counter(), {**machine(), "threads": set_threads(), **versions}
    about["load"] = f"{os.getloadavg()[0]:.1f}"
    print("  ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    rows = [measure(task, calls, options.budget) for task, calls in tasks if options.only in task]
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"machine": about, "rows": rows}
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1))
    print(f"wrote {name}.json to {options.out}")
    if options.out.resolve() == HERE:
        tables.write()
    print(f"took {(time.perf_counter() - began) / 60:.1f} minutes")
