"""Jobs of a sweep that differ in seed or learning rate alone, trained in one pass.

``trainer.replicas=R`` asks for R of them: it is short for a sweep over ``trainer.seed`` with this
launcher. The data set, which has a seed of its own, is the same for all.
"""

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, final

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn

from .errors import ConfigError
from .launcher import SweepLauncher, job_here
from .replicas import Stage, train_together

_FREE = ("trainer.seed", "optimizer.learning_rate")  # what jobs of one pass may differ in
_ASKED = "trainer.replicas="
_SEED = 1  # of conf/config.yaml


def expanded(arguments: Sequence[str]) -> list[str]:
    """Return the command line with ``trainer.replicas=R`` spelt out.

    Raises
    ------
    ConfigError
        Where R is no number, or the seed to count from is not one number.
    """
    asked = [a for a in arguments if a.startswith(_ASKED)]
    if not asked:
        return list(arguments)
    number = asked[-1].removeprefix(_ASKED)
    if not number.isdigit() or int(number) < 1:
        raise ConfigError(f"{asked[-1]}: use 1 or more, the number of models to train in one pass")
    rest = [a for a in arguments if not a.startswith(_ASKED)]
    if int(number) == 1:
        return rest
    if launcher := [a for a in rest if a.startswith("hydra/launcher=")]:
        raise ConfigError(
            f"{asked[-1]} has a launcher of its own: leave {launcher[0]} out, or give "
            "trainer.seed=1,2,... instead"
        )
    first = _first_seed(rest)
    seeds = ",".join(str(first + i) for i in range(int(number)))
    rest = [a for a in rest if a not in ("-m", "--multirun") and not a.startswith("trainer.seed=")]
    return ["-m", *rest, f"trainer.seed={seeds}", "hydra/launcher=one_pass"]


def _first_seed(arguments: Sequence[str]) -> int:
    for key in ("trainer.seed=", "seed="):
        given = [a.removeprefix(key) for a in arguments if a.startswith(key)]
        if given and not given[-1].isdigit():
            raise ConfigError(f"{key}{given[-1]}: {_ASKED}R counts on from one seed, such as 1")
        if given:
            return int(given[-1])
    return _SEED


@final
class OnePassLauncher(SweepLauncher):
    """Runs jobs that differ in seed and learning rate alone together, ``at_once`` at most.

    Raises
    ------
    ConfigError
        Where that is no number of jobs.
    """

    def __init__(self, at_once: int = 16) -> None:
        if not isinstance(at_once, int) or at_once < 1:
            raise ConfigError(f"hydra.launcher.at_once={at_once}: use 1 or more")
        self._at_once = at_once

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; return what each came to, in the same order."""
        self._begin()
        given = (self._context, self._config, self._task)
        found: dict[int, JobReturn] = {}
        for numbers in self._groups(job_overrides):
            works = [
                partial(job_here, *given, initial_job_idx + i, list(job_overrides[i]))
                for i in numbers
            ]
            for i, result in zip(numbers, train_together(works, _HydraStage()), strict=True):
                if isinstance(result, BaseException):
                    raise result
                found[i] = result
        return [found[i] for i in range(len(job_overrides))]

    def _groups(self, job_overrides: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return the numbers of jobs that can be trained in one pass."""
        alike: dict[tuple[str, ...], list[int]] = {}
        for i, overrides in enumerate(job_overrides):
            kept = tuple(o for o in overrides if o.partition("=")[0] not in _FREE)
            alike.setdefault(kept, []).append(i)
        n = self._at_once
        return [jobs[i : i + n] for jobs in alike.values() for i in range(0, len(jobs), n)]


@final
class _HydraStage(Stage):
    """Hydra's view of the job at work, and where that prints and warns."""

    def get(self) -> tuple[Any, ...]:
        """Return what is there now."""
        return HydraConfig.instance().cfg, sys.stdout, sys.stderr, warnings.showwarning

    def put(self, held: tuple[Any, ...]) -> None:
        """Put back what `get` returned."""
        HydraConfig.instance().cfg, sys.stdout, sys.stderr, warnings.showwarning = held
