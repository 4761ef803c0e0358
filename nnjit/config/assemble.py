"""A run from its configuration: the one place where its parts are put together."""

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
        Its ``n_classes`` is filled in from the data set.
    describe
        Says what the record tells of it, from the built model and the data.
    folder
        Where the command began: places in the configuration are relative to it.
    more
        Callbacks besides those of ``cfg.callbacks``, behind them.
    initial
        A saved model, with whose weights this one begins.

    Warns
    -----
    UserWarning
        Where some layers are not those of ``initial``.

    Raises
    ------
    ConfigError, DataError, ShapeError
        Where the configuration describes none.
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
    """Return a recorded configuration whose run these of nnjit's own callbacks observe.

    What was recorded of them may name places of others; only early stopping, which has a say in the
    result, norms, and callbacks of packages that are trusted are taken from the record.
    """
    standard = OmegaConf.to_container(OmegaConf.load(CONF / "callbacks" / "default.yaml"))
    assert isinstance(standard, dict)
    own = {name: entry for name, entry in standard.items() if name in observers}
    recorded = OmegaConf.to_container(cfg).get("callbacks") or {}
    kept = {name: entry for name, entry in recorded.items() if _has_a_say(name, entry)}
    cfg.callbacks = {**own, **kept}
    return cfg


def _has_a_say(name: str, entry: Any) -> bool:
    foreign = isinstance(entry, dict) and not str(entry.get("_target_")).startswith("nnjit.")
    return foreign or name in ("early_stopping", "norms")
