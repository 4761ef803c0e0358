"""Sweeps: one parent for all jobs of ``python -m nnjit.run -m``, a table and a figure at the end.

Hydra runs the jobs, here or elsewhere; each leaves a record in the folder of the sweep.
"""

import contextlib
import os
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import former, trust
from ..config.build import build
from ..config.overrides import quoted
from ..errors import ConfigError
from ..reporting import terminal, variants
from ..reporting.messages import one_line_errors
from ..runtime.places import given_path
from ..runtime.secrets import hide
from ..runtime.text import markdown_block
from ..storage.records import (
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    JobRecord,
    SweepManifest,
    read_all,
    running,
)
from ..tracking import Parent, SweepInfo, SweepReport, Tracker, without_passwords
from ..tracking.parent import VARIABLE
from ..tracking.recording import Step, carry_out
from ..training.run import told
from .jobs import title
from .notes import NOTES
from .search import sweeper as search

_PLAN = "sweep.json"
# What may be given beside resume=: where the sweep is, how it runs, whom it trusts.
_AS_IT_BEGAN = (
    "a sweep goes on as it began, only hydra/launcher, trusted, and tracking.root or uri, which "
    "tell where it is, can be given"
)
_NEW = ("tracking.", "hydra/launcher=", "hydra.launcher.", "hydra.sweeper.storage=", "trusted=")
_NOT_BEGUN = "it did not begin"
# Hydra calls a callback, which knows only what Hydra does: main() resumes before, and closes after.
_current: "Sweep | None" = None
_resumed: Path | None = None


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

    def __init__(self, folder: Path, plan: SweepManifest, parent: Parent) -> None:
        self.folder, self.plan, self.parent = folder, plan, parent

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
        parent = build(composed[0], "tracking", Tracker).parent()  # type: ignore[type-abstract]
        swept = [o for o in _parsed(overrides) if o.is_sweep_override()]
        varied = [o.get_key_element().lstrip("+~") for o in swept]
        varied += list(config.hydra.sweeper.get("params") or {})
        total = len(jobs) if jobs else OmegaConf.select(config, "hydra.sweeper.n_trials")
        given = without_passwords([sys.argv[1:], overrides, varied, total, jobs])
        before = _resumed or search.earlier(config)
        folder = before or Path(config.hydra.sweep.dir).resolve()
        sweep = cls(folder, SweepManifest(os.getcwd(), *given), parent)
        sweep._start(new=before is None)
        _tell_jobs(config, sweep)
        return sweep

    def _start(self, new: bool) -> None:
        from ..runtime.environment import environment

        self._lock = FileLock(self.folder / ".lock", timeout=0)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ConfigError(f"the sweep in {self.folder} is still running") from None
        if new:
            info = SweepInfo(self._name(), self.plan.overrides, self._description([]), self.folder)
            self.parent.start(info, environment())
            replace(self.plan, parent=self.parent.run_id).write(self.folder)
        else:
            self._resume()
        jobs = "" if self.plan.total is None else f"{self.plan.total} jobs, "
        out = terminal.console()
        out.print(f"sweep    {self._name()}: {jobs}output in {self.folder}", soft_wrap=True)

    def _resume(self) -> None:
        before = _recorded(self.folder)
        if _without_store(before.jobs) != _without_store(self.plan.jobs):
            raise ConfigError("the jobs of the sweep are not the same any more: start it again")
        # A search has another trial for one that failed.
        settled = (FINISHED,) if self.plan.jobs is not None else (FINISHED, FAILED)
        finished = set()
        for record in read_all(self.folder):
            if record.status in settled:
                finished.add(record.number)
            elif _alive(self.folder, record.number):
                raise ConfigError(
                    f"{title(self.plan, record)} of the sweep is still running: wait, or end it"
                )
        whole = self.plan.total is not None and len(finished) >= self.plan.total
        if whole and self.parent.is_closed(before.parent):
            raise ConfigError(f"the sweep in {self.folder} has finished: there is nothing to do")
        self.parent.resume(before.parent, finished)
        replace(self.plan, parent=before.parent).write(self.folder)

    def _name(self) -> str:
        """Return the name that was given, or what is swept."""
        given = [o.partition("=")[2] for o in self.plan.overrides if o.startswith("name=")]
        keys = {"model", "experiment", "search", *(self.plan.varied or [])}
        pairs = {o.partition("=")[0].lstrip("+~"): o for o in self.plan.overrides}
        distinguishing = [o for key, o in pairs.items() if key in keys]
        return " ".join(given or distinguishing or self.plan.overrides) or "sweep"

    def close(self, interrupted: bool) -> int:
        """Print and record the results of the jobs; return the number that did not finish."""
        records = self._records(interrupted)
        hide(self.folder, "multirun.yaml")
        # The trials of a search are told by the search itself.
        found = variants.group(records) if self.plan.jobs is not None else []
        unfinished = [r for r in records if r.status != FINISHED]
        status = KILLED if interrupted else FAILED if unfinished or not records else FINISHED
        report = SweepReport(
            status,
            records,
            self._description(found),
            NOTES.values or variants.means(found),
            [*self._files([] if interrupted else found), *NOTES.files],  # a figure takes a second
        )
        self._print_results(found, unfinished)  # before the store, which may fail
        lines: list[str] = []
        missing = carry_out([Step("its end", lambda: lines.extend(self.parent.finish(report)))])
        if missing:
            lines.append(f"record   that of the sweep lacks {told(missing)}")
        self._print_directions([*self._warnings(records), *lines], bool(unfinished or missing))
        return len(unfinished) + len(missing)

    def _records(self, interrupted: bool) -> list[JobRecord]:
        """Return the records of all jobs; say what became of those that did not end."""
        records = {record.number: record for record in read_all(self.folder)}
        for number, overrides in enumerate(self.plan.jobs or []):
            missing = JobRecord(number, overrides, status=KILLED, reason=_NOT_BEGUN)
            records.setdefault(number, missing)
        for record in records.values():
            if record.status == RUNNING:
                record.status = KILLED if interrupted else FAILED
                record.reason = "interrupted" if interrupted else "its process was killed"
                record.write(self.folder)
        return [records[number] for number in sorted(records)]

    def _description(self, found: Sequence[variants.Variant]) -> str:
        command = shlex.join(["python", "-m", "nnjit.run", *self.plan.arguments])
        table = f"{variants.markdown(found)}\n\n{variants.legend(found)}" if found else ""
        notes = markdown_block("\n".join(NOTES.lines)) if NOTES.lines else ""
        return "\n\n".join(part for part in (markdown_block(command), notes, table) if part)

    def _files(self, found: Sequence[variants.Variant]) -> list[Path]:
        """Write the tables and the figure of the sweep into its folder."""
        files = [self.folder / name for name in (_PLAN, "sweep.csv", "summary.csv", "summary.png")]
        variants.write_runs(read_all(self.folder), files[1])
        if not found:
            return files[:2]
        from ..reporting import figures

        variants.write_variants(found, files[2])
        figures.variants(found).savefig(files[3], dpi=110)
        return files

    @staticmethod
    def _warnings(records: Sequence[JobRecord]) -> list[str]:
        """Return each warning once, with the number of jobs that gave it."""
        counts = Counter(warning for record in records for warning in set(record.warnings))
        return [f"warning  in {n} of {len(records)} jobs: {text}" for text, n in counts.items()]

    def _print_results(
        self, found: Sequence[variants.Variant], unfinished: Sequence[JobRecord]
    ) -> None:
        out = terminal.console()
        if found:
            table = variants.table(found, out.width)
            out.print(table, variants.legend(found), sep="\n", end="\n\n")
        for record in unfinished:
            if record.reason != _NOT_BEGUN:
                out.print(terminal.job_line(title(self.plan, record), record), soft_wrap=True)
        if missing := sum(record.reason == _NOT_BEGUN for record in unfinished):
            out.print(f"{missing} of {self.plan.total} jobs did not begin")
        for line in NOTES.lines:
            out.print(line, soft_wrap=True)

    def _print_directions(self, lines: Sequence[str], unfinished: bool) -> None:
        out = terminal.console()
        for line in (*lines, f"files    {self.folder}"):
            out.print(line, soft_wrap=True)
        if unfinished:
            what = f"resume={self.parent.run_id or self.folder}"
            more = trust.to_give_again(self.plan.arguments)
            command = shlex.join(["python", "-m", "nnjit.run", "-m", what, *more])
            out.print(f"resume   {command}", soft_wrap=True)


@contextlib.contextmanager
def open_sweep() -> Iterator[None]:
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


def resumed(arguments: list[str]) -> list[str]:
    """Return the command line of a sweep that goes on, where the arguments ask for one.

    Raises
    ------
    ConfigError, TrackingError
        Where there is no such sweep, or it would not go on as it began.
    """
    global _resumed
    flags, given = ("-m", "--multirun"), [a for a in arguments if a.startswith("resume=")]
    if not given or not any(flag in arguments for flag in flags):
        return arguments
    more = [a for a in arguments if a not in (*flags, *given)]
    for argument in more:
        if not argument.startswith(_NEW) and not trust.to_give_again([argument]):
            raise ConfigError(f"{argument}: {_AS_IT_BEGAN}")
    run = given[-1].partition("=")[2]
    folder = given_path(run).resolve() if given_path(run).is_dir() else _stored(run, more)
    plan, _resumed = _recorded(folder), folder
    for argument in more:
        if not argument.startswith(_NEW) and argument not in plan.arguments:
            raise ConfigError(f"{argument}: {_AS_IT_BEGAN}")
    if os.path.isdir(plan.cwd) and not os.path.samefile(plan.cwd, "."):
        raise ConfigError(
            f"the sweep began in {plan.cwd}, and its paths may be relative: go there to resume it"
        )
    return _merged(plan.arguments, [*more, f"hydra.sweep.dir={folder}"])


def _recorded(folder: Path) -> SweepManifest:
    """Return the plan in the folder of a sweep, with the names of today."""
    plan = SweepManifest.read(folder)
    jobs = plan.jobs and [[former.override(o) for o in job] for job in plan.jobs]
    return replace(plan, arguments=[former.override(a) for a in plan.arguments], jobs=jobs)


def _merged(recorded: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return recorded arguments with those that are given now.

    The overrides stay together: argparse wants them so.
    """
    new = quoted([a for a in given if a not in recorded])
    stale = ("hydra.launcher.",) if any(a.startswith("hydra/launcher=") for a in given) else ()
    kept = [a for a in recorded if a in given or not a.startswith(stale)]
    kept = trust.recorded_arguments(kept, given)
    place = next((i for i, a in enumerate(kept) if "=" in a and not a.startswith("-")), len(kept))
    return [*kept[:place], *new, *kept[place:]]


def _stored(run: str, overrides: Sequence[str]) -> Path:
    """Return the folder of a sweep in the store that the overrides name."""
    from ..tracking import MlflowTracker, store_folders

    pairs = [o.removeprefix("tracking.").split("=", 1) for o in overrides if "=" in o]
    options = {key: value for key, value in pairs if key in ("root", "uri")}
    folder = MlflowTracker(**options).parent().find(run)
    where = {f"tracking.{key}": value for key, value in options.items()}
    return trust.within(folder, store_folders(where), "resume")


def _without_store(jobs: Sequence[Sequence[str]] | None) -> list[list[str]]:
    """Return the overrides of each job but for those that tell where the store is."""
    return [[o for o in job if not o.startswith("tracking.")] for job in jobs or ()]


def _alive(folder: Path, number: int) -> bool:
    try:
        with running(folder, number):
            return False
    except Timeout:
        return True


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
