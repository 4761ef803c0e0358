"""Times steps of the grid in a process of its own, for whichever nnjit lies in its folder.

`against` starts it, as a script, in the folder of a commit, which may be older than this file. It
reads a JSON object from each line, ``{"step": {...}, "budget": seconds}``, and answers with the
seconds of the best call.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def _set_threads() -> None:
    try:
        threads = import_module("nnjit.runtime.threads")
    except ModuleNotFoundError:  # where it lay before
        threads = import_module("nnjit.threads")
    threads.set_threads()


def main() -> None:
    sys.path[0] = str(Path.cwd())  # in place of the folder of this file
    made: Callable[..., object] = import_module("benchmarks.task").Step
    side, clock = import_module("benchmarks.nnjit_side"), import_module("benchmarks.clock")
    nnjit = Path(str(import_module("nnjit").__file__))
    if not nnjit.is_relative_to(Path.cwd()):
        sys.exit(f"{nnjit} is not the nnjit of {Path.cwd()}")
    _set_threads()
    calls: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        task = json.loads(line)
        name = json.dumps(task["step"])
        if name not in calls:
            calls = {name: side.step(made(**task["step"]))}  # one at a time: memory
        print(json.dumps(min(clock.seconds(calls[name], task["budget"], 10_000))), flush=True)


if __name__ == "__main__":
    main()
