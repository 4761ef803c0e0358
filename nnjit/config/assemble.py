"""Builds a `TrainingRun` from its configuration."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..datasets import DataSplits, LabelledData
from ..model import Sequential
from ..training.callbacks import Callback
from ..training.run import RunInfo, TrainingRun
from ..training.trainer import Trainer
from ..training.transfer import take_over
from .build import CONF, build

Describe = Callable[[Sequential, DataSplits], RunInfo]


def assemble(
    cfg: DictConfig,
    describe: Describe,
    folder: str = ".",
    more: Sequence[Callback] = (),
    initial: Sequential | None = None,
) -> TrainingRun:
    """Return the run that a configuration describes, ready to be executed.

    Parameters
    ----------
    cfg
        The configuration; its ``n_classes`` is set from the data set.
    describe
        Returns the information for the record, given the built model and the data.
    folder
        The working directory of the command: paths in the configuration are relative to it.
    more
        Callbacks that follow those of ``cfg.callbacks``.
    initial
        A saved model, whose weights are the initial weights.

    Warns
    -----
    UserWarning
        If some layers differ from those of ``initial``.

    Raises
    ------
    ConfigError, DataError, ShapeError
        If the configuration is not valid.
    """
    with contextlib.chdir(folder):
        trainer = build(cfg, "trainer", Trainer)
        callbacks = [
            build(cfg, f"callbacks.{name}", Callback)
            for name, entry in (cfg.callbacks or {}).items()
            if entry is not None
        ]
        data = build(cfg, "dataset", LabelledData).load(cfg.seed)  # type: ignore[type-abstract]
        cfg.n_classes = len(data.classes)
        model = build(cfg, "model", Sequential)
        task = trainer.prepare(model, data)
        if initial is not None and (anew := take_over(model, initial)):
            warnings.warn(
                f"init_from: {', '.join(anew)} of the model are not as saved, and begin anew",
                stacklevel=2,
            )
        info = describe(model, data)
    return TrainingRun(info, data, model, trainer, task, [*callbacks, *more])


def observed(cfg: DictConfig, observers: Sequence[str]) -> DictConfig:
    """Return a recorded configuration with the named callbacks of nnjit's default.

    The recorded settings of nnjit's callbacks are not used, since they may name paths of another
    user. Only early stopping, which affects the result, norms, and callbacks of trusted packages
    are taken from the record.
    """
    standard = OmegaConf.to_container(OmegaConf.load(CONF / "callbacks" / "default.yaml"))
    assert isinstance(standard, dict)
    default = {name: entry for name, entry in standard.items() if name in observers}
    recorded = OmegaConf.to_container(cfg).get("callbacks") or {}
    taken = {name: entry for name, entry in recorded.items() if _is_taken(name, entry)}
    cfg.callbacks = {**default, **taken}
    return cfg


def _is_taken(name: str, entry: Any) -> bool:
    foreign = isinstance(entry, dict) and not str(entry.get("_target_")).startswith("nnjit.")
    return foreign or name in ("early_stopping", "norms")
