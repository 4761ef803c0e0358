"""Runs one job of a sweep, in any process, and writes its record and its output."""

import contextlib
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig

from ..errors import UnrecordedError, first_line
from ..reporting import terminal, variants
from ..reporting.messages import WARNING, explain, one_line_warnings
from ..runtime import signals
from ..runtime.text import open_streams, say
from ..storage.records import FAILED, FINISHED, KILLED, RUNNING, JobRecord, SweepManifest, running
from ..tracking import without_passwords
from ..training.run import Outcome

_OUTPUT = "output.txt"


def job(work: Callable[[str], Outcome]) -> float:
    """Run one job of a sweep; return its score, NaN if it failed, so that the others continue.

    ``work`` is called with the title of the job if it may draw a progress line on the terminal,
    else with "".

    Its output goes to a file in the folder of the job. The terminal shows only how the job ended,
    and its progress if no other job runs at the same time.
    """
    open_streams()  # a worker process may have closed streams
    hydra = HydraConfig.get()
    folder, output = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir) / _OUTPUT
    overrides = without_passwords(list(hydra.overrides.task))
    model = f"model={hydra.runtime.choices.get('model')}"
    record = JobRecord.read(folder, hydra.job.num)
    if record is not None and record.status == FINISHED:  # it finished before a resume
        return _score(record)
    record = JobRecord(hydra.job.num, overrides, model, pid=os.getpid())
    name = title(SweepManifest.read(folder), record)
    in_process = hydra.runtime.choices.get("hydra/launcher") == "basic"
    with signals.heard(), running(folder, record.number):
        record.write(folder)
        try:
            _work(lambda: work(name if in_process else ""), record, output)
        finally:
            record.warnings = _warnings(output)
            record.write(folder)
            say(terminal.job_line(name, record))
    return _score(record)


def _work(work: Callable[[], Outcome], record: JobRecord, output: Path) -> None:
    """Call ``work``, and set the result or the error in the record."""
    began = time.perf_counter()
    try:
        with (
            output.open("w", buffering=1, encoding="utf-8") as file,
            _printing_to(file),
            one_line_warnings(),
        ):
            outcome = _outcome(work)
        record.monitor, record.values = outcome.monitor, outcome.values
        record.status, record.score = FINISHED, outcome.score
    except Exception as error:
        record.status, record.reason = FAILED, _reason(error, output)
    except BaseException:
        record.status, record.reason = KILLED, "interrupted"
        raise
    finally:
        record.seconds = time.perf_counter() - began


def _outcome(work: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of a run, even if its record in the store is incomplete."""
    try:
        return work()
    except UnrecordedError as error:
        warnings.warn(str(error), stacklevel=2)
        return cast(Outcome, error.outcome)


def _warnings(output: Path) -> list[str]:
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    return [line.removeprefix(WARNING) for line in lines if line.startswith(WARNING)]


def _score(record: JobRecord) -> float:
    return nan if record.score is None else record.score


def print_ended(folder: Path, number: int) -> None:
    """Print how a job ended that ran in another process, whose output is not shown here."""
    record = JobRecord.read(folder, number)
    if record is not None:
        say(terminal.job_line(title(SweepManifest.read(folder), record), record))


def lost(folder: Path, number: int, overrides: list[str], reason: str) -> None:
    """Record and print that the process of a job has ended without a result."""
    record = JobRecord.read(folder, number) or JobRecord(number, overrides)
    if record.status == RUNNING:
        record.status, record.reason = FAILED, reason
        record.write(folder)
        print_ended(folder, number)


def _reason(error: Exception, output: Path) -> str:
    message = explain(error)
    if message is None:  # a bug: write its traceback to the file
        with output.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        message = f"{type(error).__name__}: {first_line(error)}, see {output}"
    return message


@contextlib.contextmanager
def _printing_to(file: Any) -> Iterator[None]:
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def varied(hydra: Any) -> list[str]:
    """Return the overrides that differ between the jobs of a sweep, from Hydra's configuration."""
    overrides = without_passwords(list(hydra.overrides.task))
    return variants.chosen(overrides, SweepManifest.read(Path(hydra.sweep.dir)).varied)


def title(manifest: SweepManifest, record: JobRecord) -> str:
    """Return the number of a job and its distinguishing overrides: [3/9] model=rnn seed=2."""
    total = "" if manifest.total is None else f"/{manifest.total}"
    return f"[{record.number + 1}{total}] {variants.label(record, manifest.varied)}"
