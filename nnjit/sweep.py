"""Sweeps: one parent for all jobs of ``python -m nnjit.run -m``, a table and a figure at the end.

Hydra runs the jobs, here or elsewhere; each leaves a record in the folder of the sweep.
"""

import contextlib
import json
import os
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from . import composition, terminal, variants
from .cli import explain, one_line_errors, one_line_warnings, quoted
from .errors import ConfigError
from .persistence import write_atomically
from .records import FAILED, FINISHED, KILLED, RUNNING, JobRecord, Outcome, read_all
from .tracking import Parent, SweepInfo
from .tracking.parent import VARIABLE

_PLAN = "sweep.json"
_OUTPUT = "output.txt"
_WARNING = "nnjit: warning: "
_current: "Sweep | None" = None  # Hydra calls a callback, main() closes what it opened


@final
@dataclass(frozen=True)
class Plan:
    """What is known of a sweep before its first job; ``jobs`` only where a sweeper tells."""

    overrides: list[str]
    varied: list[str] | None
    total: int | None
    jobs: list[list[str]] | None
    parent: str = ""

    def write(self, folder: Path) -> None:
        """Write the plan into the folder of the sweep."""
        write_atomically(folder / _PLAN, json.dumps(vars(self), indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Return the plan in the folder of a sweep."""
        return cls(**json.loads((folder / _PLAN).read_text()))


@final
class SweepCallback(Callback):
    """Hears from Hydra that a sweep begins, before any job does."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the sweep. Hydra turns an exception here into a warning, all but SystemExit."""
        global _current
        try:
            with one_line_errors():
                _current = Sweep.open(config)
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None


@final
class Sweep:
    """A sweep under way in this process."""

    def __init__(self, folder: Path, plan: Plan, name: str, parent: Parent) -> None:
        self.folder, self.plan, self.name, self.parent = folder, plan, name, parent

    @classmethod
    def open(cls, config: DictConfig) -> "Sweep":
        """Check every job's configuration, make the parent run and tell the jobs of it.

        Raises
        ------
        ConfigError, TrackingError, HydraException
            Where a job cannot be composed or the store cannot be opened; no job has begun then.
        """
        overrides = list(config.hydra.overrides.task)
        jobs = _jobs(config, overrides)
        loader = GlobalHydra.instance().config_loader()
        composed = [loader.load_sweep_config(config, job) for job in jobs or []] or [config]
        tracker = composition.build(composed[0], "tracking", config.trusted)
        swept = [o for o in _parsed(overrides) if o.is_sweep_override()]
        name = " ".join(o.input_line for o in swept) or " ".join(overrides)
        given = [o.partition("=")[2] for o in overrides if o.startswith("name=")]
        folder = Path(config.hydra.sweep.dir).resolve()
        total = len(jobs) if jobs else OmegaConf.select(config, "hydra.sweeper.n_trials")
        varied = [o.get_key_element().lstrip("+~") for o in swept] if jobs else None
        plan = Plan(overrides, varied, total, jobs)
        sweep = cls(folder, plan, " ".join(given) or name or "sweep", tracker.parent())
        sweep._start()
        _tell_jobs(config, sweep)
        return sweep

    def _start(self) -> None:
        from .environment import environment

        info = SweepInfo(self.name, self.plan.overrides, self._description([]), self.folder)
        self.parent.start(info, environment())
        Plan(**{**vars(self.plan), "parent": self.parent.run_id}).write(self.folder)
        jobs = "" if self.plan.total is None else f"{self.plan.total} jobs, "
        out = terminal.console()
        out.print(f"sweep    {self.name}: {jobs}output in {self.folder}", soft_wrap=True)

    def close(self, interrupted: bool) -> int:
        """Print and record what the jobs came to; return the number that did not finish."""
        records = self._records(interrupted)
        found = variants.group(records)
        unfinished = [r for r in records if r.status != FINISHED]
        status = KILLED if interrupted else FAILED if unfinished or not records else FINISHED
        lines = self.parent.finish(
            status, records, self._description(found), variants.means(found), self._files(found)
        )
        self._print(found, unfinished, lines)
        return len(unfinished)

    def _records(self, interrupted: bool) -> list[JobRecord]:
        """Return the records of all jobs; say what became of those that did not end."""
        records = {record.number: record for record in read_all(self.folder)}
        for number, overrides in enumerate(self.plan.jobs or []):
            missing = JobRecord(number, overrides, status=KILLED, reason="it did not begin")
            records.setdefault(number, missing)
        for record in records.values():
            if record.status == RUNNING:
                record.status = KILLED if interrupted else FAILED
                record.reason = "interrupted" if interrupted else "its process was killed"
                record.write(self.folder)
        return [records[number] for number in sorted(records)]

    def _description(self, found: Sequence[variants.Variant]) -> str:
        command = shlex.join(["python", "-m", "nnjit.run", "-m", *self.plan.overrides])
        table = f"\n\n{variants.markdown(found)}\n\n{variants.legend(found)}" if found else ""
        return f"```\n{command}\n```{table}"

    def _files(self, found: Sequence[variants.Variant]) -> list[Path]:
        """Write the tables and the figure of the sweep into its folder."""
        files = [self.folder / name for name in (_PLAN, "sweep.csv", "summary.csv", "summary.png")]
        variants.write_runs(read_all(self.folder), files[1])
        if not found:
            return files[:2]
        from . import figures

        variants.write_variants(found, files[2])
        figures.variants(found).savefig(files[3], dpi=110)
        return files

    def _print(
        self,
        found: Sequence[variants.Variant],
        unfinished: Sequence[JobRecord],
        lines: Sequence[str],
    ) -> None:
        out = terminal.console()
        if found:
            out.print(variants.table(found), variants.legend(found), sep="\n", end="\n\n")
        for record in unfinished:
            out.print(terminal.job_line(self._title(record), record), soft_wrap=True)
        for line in (*lines, f"files    {self.folder}"):
            out.print(line, soft_wrap=True)

    def _title(self, record: JobRecord) -> str:
        return title(self.plan, record)


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Close the sweep that begins inside, if one does, however it ends.

    Raises
    ------
    SystemExit
        With code 1 where a job did not finish.
    """
    global _current
    try:
        yield
    except BaseException as error:
        if _current is not None:
            sweep, _current = _current, None
            sweep.close(isinstance(error, KeyboardInterrupt))
        raise
    if _current is not None:
        sweep, _current = _current, None
        if sweep.close(interrupted=False):
            raise SystemExit(1)


def title(plan: Plan, record: JobRecord) -> str:
    """Return the number of a job and what sets it apart: [3/9] model=rnn seed=2."""
    total = "" if plan.total is None else f"/{plan.total}"
    return f"[{record.number + 1}{total}] {variants.label(record, plan.varied)}"


def varied(overrides: Sequence[str]) -> list[str]:
    """Return those overrides of a job that vary in its sweep, all where that is not known."""
    keys = Plan.read(Path(HydraConfig.get().sweep.dir)).varied
    return [o for o in overrides if keys is None or o.partition("=")[0].lstrip("+~") in keys]


def job(work: Callable[[Console], Outcome]) -> float:
    """Run one job of a sweep; return its score, NaN where it failed: the others go on.

    What it prints goes to a file in its own folder, to the terminal only how it ended.
    """
    hydra = HydraConfig.get()
    folder, output = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir) / _OUTPUT
    model = f"model={hydra.runtime.choices.get('model')}"
    record = JobRecord(hydra.job.num, list(hydra.overrides.task), model)
    record.write(folder)
    began = time.perf_counter()
    try:
        with output.open("w") as file, _printing_to(file), one_line_warnings():
            outcome = work(terminal.console())
        record.monitor, record.values = outcome.monitor, outcome.values
        record.status = FINISHED
        return outcome.score
    except Exception as error:
        record.status, record.reason = FAILED, _reason(error, output)
        return float("nan")
    except BaseException:
        record.status, record.reason = KILLED, "interrupted"
        raise
    finally:
        record.seconds = time.perf_counter() - began
        record.write(folder)
        line = terminal.job_line(title(Plan.read(folder), record), record)
        print(line, flush=True)


def _reason(error: Exception, output: Path) -> str:
    message = explain(error)
    if message is None:  # a bug: its traceback is for the file
        with output.open("a") as file:
            traceback.print_exc(file=file)
        message = f"{type(error).__name__}: {composition.first_line(error)}, see {output}"
    return message


@contextlib.contextmanager
def _printing_to(file: Any) -> Iterator[None]:
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def _parsed(overrides: Sequence[str]) -> list[Any]:
    loader = GlobalHydra.instance().config_loader()
    return list(OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)))


def _jobs(config: DictConfig, overrides: Sequence[str]) -> list[list[str]] | None:
    """Return the overrides of each job where Hydra's own sweeper makes them, else None."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = _parsed(overrides)
    for o in parsed:
        if o.is_sweep_override() and o.get_key_element().lstrip("+").startswith("tracking"):
            raise ConfigError(
                f"{o.input_line}: all jobs of a sweep go to one store: start a sweep for each"
            )
    if not str(config.hydra.sweeper.get("_target_")).endswith(".BasicSweeper"):
        return None
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    batches = BasicSweeper.split_arguments([*_parsed(params), *parsed], None)
    return [job for batch in batches for job in batch]


def _tell_jobs(config: DictConfig, sweep: Sweep) -> None:
    """Hand the folder and the parent's id to every job, whatever process launches it, and where."""
    more = [f"hydra.sweep.dir={sweep.folder}"]
    os.environ.pop(VARIABLE, None)
    if sweep.parent.run_id:
        os.environ[VARIABLE] = sweep.parent.run_id
        more.append(f"++hydra.job.env_set.{VARIABLE}={sweep.parent.run_id}")
    with open_dict(config):
        config.hydra.sweep.dir = str(sweep.folder)
        config.hydra.overrides.hydra.extend(quoted(more))
