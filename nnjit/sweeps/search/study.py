"""Studies of Optuna, and the callback that connects a run with its trial.

Optuna is imported only when a study is opened, since most runs are no trial.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ...errors import ConfigError
from ...runtime.places import given_path
from ...tracking import database_lock, without_passwords
from ...tracking.sqlite import sqlite_file, sqlite_uri
from ...training.callbacks import Callback, Progress
from ...training.run import Trained, TrainingRun

_WAIT = 60  # seconds to wait for the lock of an SQLite file


@final
@dataclass(frozen=True)
class StudyConfig:
    """The storage of a study, and the settings for pruning trials."""

    name: str
    storage: str
    n_unpruned_trials: int | None  # None prunes nothing
    n_warmup_epochs: int

    @classmethod
    def of(cls, sweeper: DictConfig, cfg: DictConfig) -> "StudyConfig":
        """Return the settings of a configuration; ``sweeper`` is its ``hydra.sweeper``."""
        root = given_path(OmegaConf.select(cfg, "tracking.root") or "runs").resolve()
        storage = sweeper.storage or sqlite_uri(root / "optuna.db")
        n_unpruned = int(sweeper.n_unpruned_trials) if sweeper.prune else None
        return cls(str(sweeper.study), str(storage), n_unpruned, int(sweeper.n_warmup_epochs))

    @property
    def file(self) -> Path | None:
        """The SQLite file of the studies, None for another database."""
        return sqlite_file(self.storage)

    def open(self, **options: Any) -> Any:
        """Return the study; ``options`` are those of Optuna, with ``direction`` to create it.

        Raises
        ------
        ConfigError
            If Optuna is missing, or the storage cannot be opened.
        KeyError
            If there is no such study and no direction.
        """
        optuna = load_optuna()
        n = self.n_unpruned_trials
        pruner = (
            optuna.pruners.NopPruner()
            if n is None
            else optuna.pruners.MedianPruner(n, self.n_warmup_epochs)
        )
        arguments = {"timeout": _WAIT} if self.file else {}
        try:
            with database_lock(self.storage):
                storage = optuna.storages.RDBStorage(self.storage, {"connect_args": arguments})
            make = optuna.load_study
            if "direction" in options:
                make, options = optuna.create_study, {**options, "load_if_exists": True}
            return make(storage=storage, study_name=self.name, pruner=pruner, **options)
        except KeyError:
            raise
        except Exception as error:
            reason = " ".join(without_passwords(str(error)).split())[:200]
            raise ConfigError(
                f"cannot open the study {self.name} in {without_passwords(self.storage)}: {reason}"
            ) from None


@final
class Trial(Callback):
    """The trial of a run: reports each epoch to the study, and ends the run if it is pruned.

    ``params`` are the parameters of the trial; ``pruned`` is the epoch after which the trial was
    ended, or None.
    """

    def __init__(self, config: StudyConfig, number: int) -> None:
        optuna = load_optuna()
        study = config.open(sampler=optuna.samplers.RandomSampler())
        frozen = study.get_trials(deepcopy=False)[number]
        self._trial = optuna.Trial(study, frozen._trial_id)
        self.study, self.number = config.name, number
        self.params: dict[str, Any] = dict(frozen.params)
        self.pruned: int | None = None

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the trial for the record of the run."""
        tags = {"nnjit.study": self.study, "nnjit.trial": str(self.number)}
        return tags | {f"nnjit.trial.{key}": str(value) for key, value in self.params.items()}

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Add a tag and a line if the trial was pruned."""
        if self.pruned is not None:
            run.tags["nnjit.pruned"] = str(self.pruned)
            line = f"pruned   after epoch {self.pruned}: worse than the median of its study"
            run.lines.append(line)

    def on_epoch_end(self, progress: Progress) -> None:
        """Report the monitored value, and stop the run if the study prunes the trial."""
        epoch = progress.history.last
        with warnings.catch_warnings():  # a trial that is run again reports the same epochs again
            warnings.simplefilter("ignore")
            self._trial.report(epoch.flat()[progress.history.monitor], epoch.epoch)
        last = epoch.epoch + 1 == progress.n_epochs
        if not last and self._trial.should_prune():
            self.pruned, progress.stop = epoch.epoch, True
            self._trial.set_user_attr("pruned", epoch.epoch)


def sampler(**options: Any) -> Any:
    """Return Optuna's TPE sampler, with floats rounded to three digits."""
    optuna = load_optuna()

    def rounded(value: Any, distribution: Any) -> Any:
        if not isinstance(distribution, optuna.distributions.FloatDistribution):
            return value
        return min(max(float(f"{value:.3g}"), distribution.low), distribution.high)

    class Rounded(optuna.samplers.TPESampler):  # type: ignore[name-defined]
        def sample_relative(self, study: Any, trial: Any, space: Any) -> Any:
            values = super().sample_relative(study, trial, space)
            return {key: rounded(value, space[key]) for key, value in values.items()}

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            value = super().sample_independent(study, trial, name, distribution)
            return rounded(value, distribution)

    return Rounded(**options)


def trial_seed(seed: int, number: int) -> int:
    """Return the seed for the parameters of a trial."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def load_optuna() -> Any:
    """Import Optuna, with its log at warnings; ConfigError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError("a search needs optuna: pip install 'nnjit[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
