"""Sweeps: one parent run for all jobs of ``python -m nnjit.run -m``, with a table and a figure.

Hydra runs the jobs, in this or other processes; each writes a record to the folder of the sweep.
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
from ..config.overrides import literal, unquoted
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
from ..training.run import missing_line
from .jobs import title
from .notes import NOTES
from .search import sweeper as search

_MANIFEST = "sweep.json"
# The options that may be combined with resume=: the store, the launcher, trusted packages.
_AS_IT_BEGAN = (
    "a sweep is resumed as it began: only hydra/launcher, trusted, and the store "
    "(tracking.root or tracking.uri) can be given"
)
_NEW = ("tracking.", "hydra/launcher=", "hydra.launcher.", "hydra.sweeper.storage=", "trusted=")
_NOT_BEGUN = "it did not begin"
# Globals, since Hydra creates the callback and passes it no arguments of main(), which sets
# `_resumed` before the sweep and closes `_current` after it.
_current: "Sweep | None" = None
_resumed: Path | None = None


@final
class SweepCallback(Callback):
    """Opens the sweep when Hydra starts it, before any job."""

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
    """The current sweep of this process."""

    def __init__(self, folder: Path, manifest: SweepManifest, parent: Parent) -> None:
        self.folder, self.manifest, self.parent = folder, manifest, parent

    @classmethod
    def open(cls, config: DictConfig) -> "Sweep":
        """Check the configuration of every job, create the parent run and pass its id to the jobs.

        Raises
        ------
        ConfigError, TrackingError, HydraException
            If a job cannot be composed or the store cannot be opened. No job has begun then.
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
        recorded = without_passwords([sys.argv[1:], overrides, varied, total, jobs])
        before = _resumed or search.earlier(config)
        folder = before or Path(config.hydra.sweep.dir).resolve()
        sweep = cls(folder, SweepManifest(os.getcwd(), *recorded), parent)
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
            overrides = self.manifest.overrides
            info = SweepInfo(self._name(), overrides, self._description([]), self.folder)
            self.parent.start(info, environment())
            replace(self.manifest, parent=self.parent.run_id).write(self.folder)
        else:
            self._resume()
        jobs = "" if self.manifest.total is None else f"{self.manifest.total} jobs, "
        out = terminal.console()
        out.print(f"sweep    {self._name()}: {jobs}output in {self.folder}", soft_wrap=True)

    def _resume(self) -> None:
        before = _recorded(self.folder)
        if _without_store(before.jobs) != _without_store(self.manifest.jobs):
            raise ConfigError("the jobs of the sweep are not the same any more: start it again")
        # A search replaces a failed trial by another one, so it need not run again.
        settled = (FINISHED,) if self.manifest.jobs is not None else (FINISHED, FAILED)
        finished = set()
        for record in read_all(self.folder):
            if record.status in settled:
                finished.add(record.number)
            elif _alive(self.folder, record.number):
                raise ConfigError(
                    f"{title(self.manifest, record)} of the sweep is still running: wait, or end it"
                )
        complete = self.manifest.total is not None and len(finished) >= self.manifest.total
        if complete and self.parent.is_closed(before.parent):
            raise ConfigError(f"the sweep in {self.folder} has finished: there is nothing to do")
        self.parent.resume(before.parent, finished)
        replace(self.manifest, parent=before.parent).write(self.folder)

    def _name(self) -> str:
        """Return the option ``name``, or else the overrides that are swept."""
        given = [o.partition("=")[2] for o in self.manifest.overrides if o.startswith("name=")]
        keys = {"model", "experiment", "search", *(self.manifest.varied or [])}
        pairs = {o.partition("=")[0].lstrip("+~"): o for o in self.manifest.overrides}
        distinguishing = [o for key, o in pairs.items() if key in keys]
        return " ".join(given or distinguishing or self.manifest.overrides) or "sweep"

    def close(self, interrupted: bool) -> int:
        """Print and record the results of the jobs; return the number that did not finish."""
        records = self._records(interrupted)
        hide(self.folder, "multirun.yaml")
        # The trials of a search are reported by the search.
        groups = variants.group(records) if self.manifest.jobs is not None else []
        unfinished = [r for r in records if r.status != FINISHED]
        status = KILLED if interrupted else FAILED if unfinished or not records else FINISHED
        report = SweepReport(
            status,
            records,
            self._description(groups),
            NOTES.values or variants.means(groups),
            [*self._files([] if interrupted else groups), *NOTES.files],  # a figure takes a second
        )
        self._print_results(groups, unfinished)  # first, since writing to the store may fail
        lines: list[str] = []
        missing = carry_out([Step("its end", lambda: lines.extend(self.parent.finish(report)))])
        if missing:
            lines.append(f"record   that of the sweep lacks {missing_line(missing)}")
        self._print_directions([*self._warnings(records), *lines], bool(unfinished or missing))
        return len(unfinished) + len(missing)

    def _records(self, interrupted: bool) -> list[JobRecord]:
        """Return the records of all jobs, with a status and a reason for those that did not end."""
        records = {record.number: record for record in read_all(self.folder)}
        for number, overrides in enumerate(self.manifest.jobs or []):
            missing = JobRecord(number, overrides, status=KILLED, reason=_NOT_BEGUN)
            records.setdefault(number, missing)
        for record in records.values():
            if record.status == RUNNING:
                record.status = KILLED if interrupted else FAILED
                record.reason = "interrupted" if interrupted else "its process was killed"
                record.write(self.folder)
        return [records[number] for number in sorted(records)]

    def _description(self, groups: Sequence[variants.Variant]) -> str:
        command = shlex.join(["python", "-m", "nnjit.run", *self.manifest.arguments])
        table = f"{variants.markdown(groups)}\n\n{variants.legend(groups)}" if groups else ""
        notes = markdown_block("\n".join(NOTES.lines)) if NOTES.lines else ""
        return "\n\n".join(text for text in (markdown_block(command), notes, table) if text)

    def _files(self, groups: Sequence[variants.Variant]) -> list[Path]:
        """Write the tables and the figure of the sweep into its folder."""
        names = (_MANIFEST, "sweep.csv", "summary.csv", "summary.png")
        files = [self.folder / name for name in names]
        variants.write_runs(read_all(self.folder), files[1])
        if not groups:
            return files[:2]
        from ..reporting import figures

        variants.write_variants(groups, files[2])
        figures.variants(groups).savefig(files[3], dpi=110)
        return files

    @staticmethod
    def _warnings(records: Sequence[JobRecord]) -> list[str]:
        """Return each warning once, with the number of jobs that raised it."""
        counts = Counter(warning for record in records for warning in set(record.warnings))
        return [f"warning  in {n} of {len(records)} jobs: {text}" for text, n in counts.items()]

    def _print_results(
        self, groups: Sequence[variants.Variant], unfinished: Sequence[JobRecord]
    ) -> None:
        out = terminal.console()
        if groups:
            table = variants.table(groups, out.width)
            out.print(table, variants.legend(groups), sep="\n", end="\n\n")
        for record in unfinished:
            if record.reason != _NOT_BEGUN:
                out.print(terminal.job_line(title(self.manifest, record), record), soft_wrap=True)
        if missing := sum(record.reason == _NOT_BEGUN for record in unfinished):
            out.print(f"{missing} of {self.manifest.total} jobs did not begin")
        for line in NOTES.lines:
            out.print(line, soft_wrap=True)

    def _print_directions(self, lines: Sequence[str], unfinished: bool) -> None:
        out = terminal.console()
        for line in (*lines, f"files    {self.folder}"):
            out.print(line, soft_wrap=True)
        if unfinished:
            target = f"resume={self.parent.run_id or self.folder}"
            more = trust.to_give_again(self.manifest.arguments)
            command = shlex.join(["python", "-m", "nnjit.run", "-m", target, *more])
            out.print(f"resume   {command}", soft_wrap=True)


@contextlib.contextmanager
def open_sweep() -> Iterator[None]:
    """Close the sweep that begins in the block, if there is one, also after an exception.

    Raises
    ------
    SystemExit
        With code 1 if a job did not finish.
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
    """Return the recorded command line of a sweep for ``resume=``, else the arguments.

    Raises
    ------
    ConfigError, TrackingError
        If there is no such sweep, or the arguments would change it.
    """
    global _resumed
    flags, targets = ("-m", "--multirun"), [a for a in arguments if a.startswith("resume=")]
    if not targets or not any(flag in arguments for flag in flags):
        return arguments
    more = [a for a in arguments if a not in (*flags, *targets)]
    for argument in more:
        if not argument.startswith(_NEW) and not trust.to_give_again([argument]):
            raise ConfigError(f"{argument}: {_AS_IT_BEGAN}")
    run = unquoted(targets[-1])
    folder = given_path(run).resolve() if given_path(run).is_dir() else _stored(run, more)
    manifest, _resumed = _recorded(folder), folder
    for argument in more:
        if not argument.startswith(_NEW) and argument not in manifest.arguments:
            raise ConfigError(f"{argument}: {_AS_IT_BEGAN}")
    if os.path.isdir(manifest.cwd) and not os.path.samefile(manifest.cwd, "."):
        raise ConfigError(
            f"the sweep began in {manifest.cwd}, and its paths may be relative: "
            "go there to resume it"
        )
    return _merged(manifest.arguments, [*more, literal("hydra.sweep.dir", str(folder))])


def _recorded(folder: Path) -> SweepManifest:
    """Return the manifest in the folder of a sweep, with current option names."""
    manifest = SweepManifest.read(folder)
    jobs = manifest.jobs and [[former.override(o) for o in job] for job in manifest.jobs]
    return replace(manifest, arguments=[former.override(a) for a in manifest.arguments], jobs=jobs)


def _merged(recorded: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return recorded arguments merged with those of the command line.

    The overrides stay contiguous, as argparse requires.
    """
    new = [a for a in given if a not in recorded]
    stale = ("hydra.launcher.",) if any(a.startswith("hydra/launcher=") for a in given) else ()
    used = [a for a in recorded if a in given or not a.startswith(stale)]
    used = trust.recorded_arguments(used, given)
    place = next((i for i, a in enumerate(used) if "=" in a and not a.startswith("-")), len(used))
    return [*used[:place], *new, *used[place:]]


def _stored(run: str, overrides: Sequence[str]) -> Path:
    """Return the folder of a sweep in the store that the overrides name."""
    from ..tracking import MlflowTracker, store_folders

    keys = {"tracking.root": "root", "tracking.uri": "uri"}
    given = {o.partition("=")[0]: o for o in overrides}
    options = {name: unquoted(given[key]) for key, name in keys.items() if key in given}
    folder = MlflowTracker(**options).parent().find(run)
    where = {f"tracking.{key}": value for key, value in options.items()}
    return trust.within(folder, store_folders(where), "resume")


def _without_store(jobs: Sequence[Sequence[str]] | None) -> list[list[str]]:
    """Return the overrides of each job without those for the store."""
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
    """Return the overrides of each job if Hydra's basic sweeper makes them, else None."""
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
    """Pass the folder and the parent's id to every job, in any process and on any machine."""
    more = [literal("hydra.sweep.dir", str(sweep.folder))]
    os.environ.pop(VARIABLE, None)
    if sweep.parent.run_id:
        os.environ[VARIABLE] = sweep.parent.run_id
        more.append(f"++hydra.job.env_set.{VARIABLE}={sweep.parent.run_id}")
    with open_dict(config):
        config.hydra.sweep.dir = str(sweep.folder)
        config.hydra.overrides.hydra.extend(more)
