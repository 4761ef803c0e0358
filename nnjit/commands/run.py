"""``python -m nnjit.run``: compose, train, record. This module alone runs Hydra."""

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from .. import tracking
from ..config import build as composition
from ..config.overrides import ordered, quoted
from ..errors import ConfigError, DataError, DivergedError, UnrecordedError
from ..reporting import terminal
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.secrets import hide
from ..runtime.text import markdown_block, say
from ..storage.records import Outcome
from ..sweeps import jobs, plugins, sweep
from ..sweeps.search import sweeper as search
from ..tracking.recording import Trained, keep_model, told
from ..tracking.summary import summarise
from ..training.checkpoint import FILE_NAME, Checkpoint, TrainingState, alone
from ..training.metrics import majority_baseline, wilson_interval

_TAGGED = ("dataset", "model", "optimizer", "schedule", "experiment", "search")


def main() -> None:
    """Run the command line; see ``python -m nnjit.run --help``."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here whole, to be told in one line
    plugins.register()
    compose = hydra.main(
        version_base="1.3", config_path=str(composition.CONF), config_name="config"
    )
    with one_line_errors():
        _refuse_replicas(sys.argv[1:])
        multirun = {"-m", "--multirun"} & set(sys.argv[1:])
        if any(a.startswith("resume=") for a in sys.argv[1:]) and not multirun:
            from .resume import resume  # which needs this module

            with one_line_warnings():
                resume(sys.argv[1:])
            return
        sys.argv[1:] = sweep.resumed(quoted(ordered(sys.argv[1:])))
        with sweep.closing():
            compose(job)()


def _refuse_replicas(arguments: Sequence[str]) -> None:
    """Name the sweep that does what an option of earlier versions did."""
    for argument in arguments:
        key, _, number = argument.partition("=")
        if key.lstrip("+") == "trainer.replicas":
            n = int(number) if number.isdecimal() and 2 <= int(number) <= 16 else 3
            seeds = ",".join(str(seed) for seed in range(1, n + 1))
            raise ConfigError(f"{argument} does not exist any more: use -m trainer.seed={seeds}")


def job(cfg: DictConfig) -> float:
    """Run one job of Hydra; return the best value of ``trainer.monitor``."""
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return jobs.job(lambda display: run(cfg, display))
    with one_line_errors(), one_line_warnings():
        if search.is_search(HydraConfig.get()):
            raise ConfigError("a search is a sweep: add -m, or leave search= out")
        return run(cfg, terminal.ProgressDisplay(terminal.console())).score


def run(cfg: DictConfig, display: terminal.ProgressDisplay) -> Outcome:
    """Train one model as configured, and print on the way."""
    if cfg.seed is None:
        cfg.seed = int(np.random.SeedSequence().generate_state(1)[0])
    hydra = HydraConfig.get()
    hide(Path(hydra.runtime.output_dir) / (hydra.output_subdir or ".hydra"))
    with alone(Path(HydraConfig.get().runtime.output_dir) / FILE_NAME):
        return train(cfg, display)


def train(
    cfg: DictConfig,
    display: terminal.ProgressDisplay,
    info: Any = None,
    state: TrainingState | None = None,
) -> Outcome:
    """Train one model as configured; ``info`` and ``state`` are those of a run that goes on."""
    out = display.out
    resumed = info is not None
    with _where_it_began():
        if not resumed:
            composition.settle_cells(cfg)
        trainer = composition.build(cfg, "trainer", cfg.trusted)
        tracker = composition.build(cfg, "tracking", cfg.trusted)
        data = composition.build(cfg, "dataset", cfg.trusted).load(cfg.seed)
        cfg.n_classes = len(data.classes)
        model = composition.build(cfg, "model", cfg.trusted)
        task = trainer.prepare(model, data)
        trial = None if resumed else search.trial_of(HydraConfig.get(), cfg)
        info = info or _describe(cfg, model, data, trial)
        _check_same(info, data)
    checkpoints = _checkpoints(cfg, info, resumed)
    out.print(data.describe(), model.summary(), sep="\n\n", end="\n\n")

    try:
        tracker.start(info, data)
        listeners = [display, tracker, *checkpoints, *([trial] if trial else [])]
        history = trainer.fit(model, task, listeners, state)
        display.close()
        if trial and trial.pruned is not None:
            tracker.tag("nnjit.pruned", str(trial.pruned))
            out.print(f"pruned   after epoch {trial.pruned}: worse than the median of its study")
        trained = _trained(history, data, model, info.folder)
        missing = keep_model(trained)  # before anything else that may fail
        out.print(terminal.epoch_table(history, info.name, out.width))
        out.print(_verdict(history, data))
        lines, missing = tracking.record(tracker, trained, missing)
    except BaseException as error:
        display.close()
        for checkpoint in checkpoints * isinstance(error, DivergedError):
            checkpoint.remove()  # the run would only diverge again
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # the first error is the one to tell
            for line in tracker.fail(composition.first_line(Exception(reason)), interrupted):
                # Not out.print: a console that was interrupted while it printed keeps its lines.
                say(line, out.file)
        raise
    for line in lines:
        out.print(line, soft_wrap=True)
    outcome = Outcome(history.monitor, summarise(history, data))
    if missing:
        raise UnrecordedError(_lacking(missing, lines), outcome)
    for checkpoint in checkpoints:
        checkpoint.remove()
    return outcome


def _where_it_began() -> contextlib.AbstractContextManager[None]:
    """Go to the folder of the command, whose places are relative to it; a job may have its own."""
    began = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else os.getcwd()
    return contextlib.chdir(began)


def _checkpoints(cfg: DictConfig, info: Any, resumed: bool) -> list[Checkpoint]:
    """Return the writer of checkpoints, if any; a new run has a file from the start."""
    if info.checkpoint is None:
        return []
    checkpoint = Checkpoint(info.checkpoint, cfg.checkpoint_every, info.to_plain())
    if not resumed:
        checkpoint.begin()
    return [checkpoint]


def _check_same(info: Any, data: Any) -> None:
    if (before := info.tags.get("nnjit.dataset_digest")) != data.digest:
        raise DataError(
            f"the data set {data.name} has changed since the run began: its digest was {before}, "
            f"is {data.digest}: start the run again"
        )


def _trained(history: Any, data: Any, model: Any, folder: Path) -> Trained:
    from ..classifier import Classifier

    return Trained(history, data, Classifier.of(model, data), folder)


def _lacking(missing: dict[str, str], lines: Sequence[str]) -> str:
    """Return one line: what the record of a trained run lacks, and what finishes it."""
    resume = next((line.split(maxsplit=1)[1] for line in lines if line.startswith("resume")), "")
    remedy = f"{resume} finishes the record" if resume else "train again for a whole record"
    return f"the run was trained to its end, but its record lacks {told(missing)}: {remedy}"


def _describe(cfg: DictConfig, model: Any, data: Any, trial: search.Trial | None) -> Any:
    """Return what the record says of this run: name, recipe, tags."""
    from ..tracking import RunInfo, without_passwords
    from ..tracking.parent import JOB_TAG

    job = HydraConfig.get()
    choices = {group: str(job.runtime.choices.get(group)) for group in _TAGGED}
    overrides = without_passwords(list(job.overrides.task))
    telling = jobs.varied(job) if job.mode is RunMode.MULTIRUN else overrides
    telling = [o for o in telling if not o.startswith(("name=", "experiment="))]
    telling = [f"seed={cfg.seed}" if o == "seed=null" else o for o in telling]
    telling = ([f"trial {trial.number}"] if trial else []) + telling
    name = " ".join([str(cfg.name)] * bool(cfg.name) + telling) or choices["model"]
    name = without_passwords(name)
    tags = {f"nnjit.{group}": choice for group, choice in choices.items() if choice != "None"}
    tags |= {"nnjit.split": str(cfg.dataset.split), "nnjit.seed": str(cfg.seed)}
    tags["nnjit.dataset_digest"] = data.digest
    tags["nnjit.started_in"] = os.getcwd()  # the configuration may hold relative paths
    tags |= trial.tags if trial else {}
    if job.mode is RunMode.MULTIRUN:
        tags[JOB_TAG] = str(job.job.num)
    parts = (_recipe(overrides, cfg.seed), model.summary(), data.describe())
    description = "\n\n".join(map(markdown_block, parts))
    folder = Path(job.runtime.output_dir)
    return RunInfo(
        name,
        without_passwords(composition.plain(cfg)),
        overrides,
        tags,
        description,
        folder,
        None if cfg.checkpoint_every is None else folder / FILE_NAME,
    )


def _recipe(overrides: Sequence[str], seed: int) -> str:
    """Return the command that repeats a run, whose seed may have been drawn."""
    given = [o for o in overrides if not o.startswith("seed=")]
    return shlex.join(["python", "-m", "nnjit.run", *given, f"seed={seed}"])


def _verdict(history: Any, data: Any) -> str:
    """Return, for each set, the final accuracy, its interval and the guess it must beat."""
    lines = []
    for name, clips in data.sets().items():
        accuracy = history.final.sets[name].values["accuracy"]
        low, high = wilson_interval(accuracy, len(clips))
        lines.append(
            f"{name:5}  accuracy {accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f} if the "
            f"{len(clips)} clips of {len(set(clips.tracks))} tracks were independent; "
            f"always answering the largest class {majority_baseline(clips.labels):.3f}"
        )
    lines.append(
        f"best   epoch {history.best.epoch} by {history.monitor}: "
        f"{history.best.flat()[history.monitor]:.4f}\n"
    )
    return "\n".join(lines)
