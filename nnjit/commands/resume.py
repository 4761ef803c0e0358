"""``python -m nnjit.run resume=...``: resumes an interrupted run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..config import former, trust
from ..config.assemble import assemble, observed
from ..datasets import DataSplits
from ..errors import CheckpointError, ConfigError, DataError
from ..model import Sequential
from ..options import names
from ..runtime.places import given_path
from ..runtime.text import say
from ..tracking import find_by_checkpoint, find_unfinished, store_folders, store_uri
from ..training.checkpoint import FILE_NAME, Checkpoint, TrainingState, run_lock
from ..training.run import RunInfo, Trained
from .initial import initial_model

_OBSERVERS = ("display", "early_stopping", "checkpoint", "tracker", "model_file")
_KEYS = ("resume", "tracking.root", "tracking.uri", "trainer.threads", "trusted")


def resume(arguments: Sequence[str]) -> Trained:
    """Resume a run with its recorded configuration.

    Raises
    ------
    ConfigError
        If there are options other than those for the run, its store, and the number of threads.
    TrackingError, CheckpointError
        If there is no such run, or it cannot be resumed.
    """
    options = parse(arguments)
    run_id, path = _find(options)
    with run_lock(path):
        state, about = Checkpoint.read(path)
        info = RunInfo.from_plain(about, path, run_id)
        cfg = _config(info, options)
        if not run_id and "uri" in cfg.tracking:
            info = replace(info, run_id=find_by_checkpoint(path, _store(options)))
        say(f"resume {run_id or path} {_place(state, cfg)}\n")

        def describe(model: Sequential, data: DataSplits) -> RunInfo:
            _check_same(info, data)
            return info

        initial = initial_model(cfg) if state is None else None  # a state has the weights
        return assemble(cfg, describe, initial=initial).execute(state)


def _check_same(info: RunInfo, data: DataSplits) -> None:
    if (before := info.tags.get("nnjit.dataset_digest")) != data.digest:
        raise DataError(
            f"the data set {data.name} has changed since the run began: its digest was {before}, "
            f"is {data.digest}: start the run again"
        )


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options by name; ConfigError for one that cannot be used with ``resume``."""
    options: dict[str, str] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in _KEYS:
            raise ConfigError(
                f"{argument} does not go with resume: a run is resumed as it was configured, and "
                f"only {', '.join(_KEYS[1:])} may be given"
            )
        options[key] = value
    return options


def _find(options: dict[str, str]) -> tuple[str, Path]:
    """Return the id of the run, empty for one that is not on record, and its checkpoint."""
    target = options["resume"]
    if not target:
        raise ConfigError("resume= names no run: use latest, the id of a run, or a folder")
    path = given_path(target)
    if path.exists():
        path = path / FILE_NAME if path.is_dir() else path
        if not path.exists():
            raise CheckpointError(f"resume={target} has no {FILE_NAME}: nothing to resume there")
        return "", path.resolve()
    if not target.isalnum():
        raise CheckpointError(f"resume={target} does not exist: use latest, an id, or a folder")
    return find_unfinished(target, _store(options), store_folders(options))


def _store(options: Mapping[str, str]) -> str:
    return options.get("tracking.uri") or store_uri(Path(options.get("tracking.root", "runs")))


def _config(info: RunInfo, options: Mapping[str, str]) -> DictConfig:
    """Return the configuration of the run; store and threads are those of the command line."""
    trusted = names(options.get("trusted", ""))
    cfg = OmegaConf.create(former.upgraded(trust.recorded(info.config, trusted, CheckpointError)))
    if "uri" in cfg.tracking:
        cfg.tracking.root = options.get("tracking.root", "runs")
        cfg.tracking.uri = options.get("tracking.uri")
    if value := options.get("trainer.threads"):
        cfg.trainer.threads = int(value) if value.isdecimal() else value
    return observed(cfg, _OBSERVERS)


def _place(state: TrainingState | None, cfg: DictConfig) -> str:
    if state is None:
        return "from its start"
    position = state.position
    if position.batch == 0 and (state.stop or position.epoch >= cfg.trainer.epochs):
        return "which has finished training: its record is completed"
    return f"from epoch {position.epoch}, batch {position.batch} of {state.n_batches}"
