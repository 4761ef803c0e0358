"""``python -m nnjit.reproduce``: trains a recorded run again and compares the bits."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..config import former, trust
from ..config.assemble import assemble, observed
from ..config.build import plain
from ..datasets import DataSplits
from ..datasets.names import root_folder
from ..errors import ConfigError, DataError, TrackingError
from ..model import Sequential
from ..options import names
from ..reporting import terminal, verdict
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.environment import environment
from ..runtime.places import given_path
from ..storage.files import weights_digest
from ..tracking import MlflowTracker, ModelFile, RecordedRun, Store
from ..tracking.summary import digested, logged, metric_keys, metrics_digest
from ..training.history import History
from ..training.run import RunInfo
from .arguments import key_values, store_options
from .initial import initial_model

USAGE = """\
Train a recorded run again from its record, and compare weights and metrics bit by bit.

  python -m nnjit.reproduce latest
  python -m nnjit.reproduce run=<id or its first digits>
  python -m nnjit.reproduce <id> dataset.root=where/the/recordings/are/now

run=     id of a run or its first digits, or latest (the default): the newest finished one
record=  true: record the new run too
root=    folder of the store (default: runs)
uri=     address of another store
trusted= packages besides nnjit whose classes the run may build, separated by commas
dataset.root= dataset.true= dataset.false= dataset.cache_dir= trainer.threads=
         other values than the recorded ones; none of them changes a result

Exit code 0: the bits agree. 1: they differ, or there was an error.
"""
_PLACES = ("dataset.root", "dataset.true", "dataset.false", "dataset.cache_dir", "trainer.threads")
_FOLDERS = ("dataset.root", "dataset.cache_dir")
_KEYS = ("run", "record", "root", "uri", "trusted", *_PLACES)
_COMMIT = "mlflow.source.git.commit"
_COPIED_TAGS = ("dataset", "model", "optimizer", "schedule", "experiment", "split", "seed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return
    with one_line_errors(), one_line_warnings():
        raise SystemExit(0 if reproduce(parse(arguments), terminal.console()) else 1)


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options by name; ConfigError for two runs or an unknown option."""
    options: dict[str, str] = {}
    for key, value in key_values(arguments, _KEYS, others=True):
        key = key or "run"
        if key == "run" and "run" in options:
            raise ConfigError(f"two runs, {options['run']} and {value}: give one")
        options[key] = value
    if options.get("record", "false") not in ("true", "false"):
        raise ConfigError(f"record={options['record']} must be true or false")
    return options


def reproduce(options: Mapping[str, str], out: terminal.PlainConsole) -> bool:
    """Train the run again, print the comparison, and tell whether all bits agree.

    Raises
    ------
    TrackingError, ConfigError, DataError
        If there is no such finished run, or its configuration or data set has changed.
    """
    store = Store.existing(store_options(options))
    run = store.run(options.get("run", "latest"))
    if run.status != "FINISHED":
        raise TrackingError(
            f"run={run.id} is {run.status}: only a finished run has weights to compare with"
        )
    began = run.tags.get("nnjit.started_in", "")
    cfg = configuration(store.config(run.id), options, began)
    out.print(f"run      {run.id} {run.name}, {run.started:%Y-%m-%d %H:%M}", soft_wrap=True)
    more = [_tracker(cfg, options), ModelFile()] if options.get("record") == "true" else []

    def describe(model: Sequential, data: DataSplits) -> RunInfo:
        for line in changes(run.tags, environment()):
            out.print(line, soft_wrap=True)
        return _describe(cfg, run, data, _folder(run, options))

    initial = initial_model(cfg, store_options(options))
    trained = assemble(cfg, describe, more=more, initial=initial).execute()
    return _compare(store, run, trained.history, trained.classifier.model, out)


def configuration(
    recorded: dict[str, Any], options: Mapping[str, str], began: str = ""
) -> DictConfig:
    """Return the recorded configuration with the options of the command line.

    Parameters
    ----------
    recorded, options
        From the store, and from the command line.
    began
        Folder in which the run began: recorded paths may be relative to it. The process does not
        change to it, since Python would look for modules there.

    Raises
    ------
    ConfigError
        If it builds classes of packages that the user has not named as trusted.
    TrackingError
        If it is no valid configuration of a run.
    """
    trusted = names(options.get("trusted", ""))
    cfg = OmegaConf.create(former.upgraded(trust.recorded(recorded, trusted, TrackingError)))
    for key in _FOLDERS:
        value = OmegaConf.select(cfg, key)
        if value is not None and os.path.isdir(began):
            OmegaConf.update(cfg, key, str(Path(began) / root_folder(value, began)))
    for key in _PLACES:
        if key in options:
            OmegaConf.update(cfg, key, _place(key, options[key]))
    return observed(cfg, ("display", "early_stopping"))


def _place(key: str, value: str) -> Any:
    if value == "null":
        return None
    if key == "trainer.threads":
        if not value.isdecimal():
            raise ConfigError(f"{key}={value} must be a whole number, or null")
        return int(value)
    # A path on the command line is relative to this folder, not to that of the recorded run.
    return str(given_path(value).absolute()) if key in _FOLDERS else value


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each version, commit, processor and setting that has changed."""
    lines = []
    for key in dict.fromkeys([*now, *(k for k in then if k.startswith("version."))]):
        before, after = then.get(key, "unknown"), now.get(key, "unknown")
        name = "commit" if key == _COMMIT else key
        if before != after:
            lines.append(f"changed  {name}: {before} then, {after} now")
        elif key == _COMMIT and after.endswith("+"):
            lines.append(f"changed? {name}: {after}, with changes that were not committed")
    return lines or ["same     commit, versions, processor and threads"]


def _tracker(cfg: DictConfig, options: Mapping[str, str]) -> MlflowTracker:
    """Return a tracker that records the new run in the same store."""
    root = given_path(options.get("root", "runs"))
    return MlflowTracker(str(root), options.get("uri"), cfg.tracking.get("experiment", "nnjit"))


def _describe(cfg: DictConfig, run: RecordedRun, data: DataSplits, folder: Path) -> RunInfo:
    """Return the information for the record of the new run; DataError if the data has changed."""
    recorded = run.tags.get("nnjit.dataset_digest")
    if data.digest != recorded:
        raise DataError(
            f"the data set {data.name} has changed: its digest was {recorded}, it is {data.digest}"
        )
    copied = {f"nnjit.{key}": run.tags.get(f"nnjit.{key}") for key in _COPIED_TAGS}
    tags = {key: value for key, value in copied.items() if value is not None}
    tags |= {"nnjit.dataset_digest": data.digest, "nnjit.reproduces": run.id}
    tags["nnjit.started_in"] = run.tags.get("nnjit.started_in", os.getcwd())
    overrides = run.tags.get("nnjit.overrides", "").split()
    return RunInfo(run.name, plain(cfg), overrides, tags, verdict.without(run.description), folder)


def _folder(run: RecordedRun, options: Mapping[str, str]) -> Path:
    """Return the folder for the files of the new run."""
    return given_path(options.get("root", "runs")).resolve() / "outputs" / "again" / run.id


def _compare(
    store: Store,
    run: RecordedRun,
    history: History,
    model: Sequential,
    out: terminal.PlainConsole,
) -> bool:
    """Print a comparison with the recorded run; tell whether every bit is the same."""
    digests = {"weights": weights_digest(model), "metrics": metrics_digest(history)}
    recorded = _recorded_epochs(store, run, history)
    difference = first_difference(recorded, history)
    agree = not difference
    for name, now in digests.items():
        then = run.tags.get(f"nnjit.{name}_digest", "not on record")
        agree &= now == then or (name == "metrics" and then == "not on record")
        out.print(f"{name:8} {now}" if now == then else f"{name:8} {then} then, {now} now")
    if agree:
        n_values = len({*digested(history.last), *recorded})
        n_epochs = len(history.epochs)
        out.print(f"the bits agree: weights, and {n_values} metrics in each of {n_epochs} epochs")
    else:
        where = difference or "in the digests above alone"
        out.print(f"the bits differ, first {where}", soft_wrap=True)
    return agree


def _recorded_epochs(
    store: Store, run: RecordedRun, history: History
) -> dict[str, dict[int, float]]:
    """Return the recorded values of each metric by epoch, without metrics newer than the run."""
    keys = metric_keys(logged(history.last))
    histories = {name: store.metric_history(run.id, key) for name, key in keys.items()}
    needed = digested(history.last)
    return {name: values for name, values in histories.items() if values or name in needed}


def first_difference(recorded: Mapping[str, Mapping[int, float]], history: History) -> str:
    """Return where the history first differs from the recorded one; empty if it does not.

    Parameters
    ----------
    recorded
        For each recorded metric its values by epoch.
    """
    for epoch in history.epochs:
        for key, now in epoch.flat().items():
            if key not in recorded:
                continue
            then = recorded[key].get(epoch.epoch)
            if then is None:
                return f"in epoch {epoch.epoch}, {key}: not on record, {now!r} now"
            if then != now and not (then != then and now != now):  # NaN equals NaN here
                return f"in epoch {epoch.epoch}, {key}: {then!r} then, {now!r} now"
    n_then = 1 + max((max(values, default=-1) for values in recorded.values()), default=-1)
    if n_then != len(history.epochs):
        return f"in the number of epochs: {n_then} then, {len(history.epochs)} now"
    return ""
