"""What checkpoints and the record cost: ``python -m benchmarks.overhead``.

The same small training as a process of its own, with and without each of them, short and long. The
difference of lengths tells the cost of an epoch, the rest is the cost of a run, imports included.
Processor time is compared, for it changes less than the clock on a machine with other work.
"""

import os
import subprocess
import sys
import tempfile

SHORT, LONG, REPEATS = 20, 1020, 3
TRAINING = (
    *("dataset=karplus", "dataset.rate=1000", "dataset.duration=0.2", "dataset.n_clips=48"),
    *("model=rnn", "trainer.threads=1"),
)
VARIANTS = {
    "neither": ("tracking=none", "checkpoint_every=null"),
    "checkpoints every 5 s": ("tracking=none",),
    "checkpoints every 0.1 s": ("tracking=none", "checkpoint_every=0.1"),
    "checkpoints every 5 s and MLflow": (),
}


def seconds(folder: str, *overrides: str) -> float:
    """Return the processor time of a run, the least of several."""
    command = [sys.executable, "-m", "nnjit.run", *TRAINING, *overrides]
    found = []
    for _ in range(REPEATS):
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def main() -> None:
    """Print a line for each variant."""
    print(f"{'':34}{'ms per epoch':>14}{'s per run':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in VARIANTS.items():
            short, long = (
                seconds(folder, f"trainer.epochs={n}", *overrides) for n in (SHORT, LONG)
            )
            epoch = (long - short) / (LONG - SHORT)
            print(f"{name:34}{1000 * epoch:14.2f}{short - SHORT * epoch:12.2f}")


if __name__ == "__main__":
    main()
