"""Which learning rate a model takes: the range test of Smith (2017)."""

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from ..errors import ConfigError, DivergedError
from ..model import Sequential
from ..parts import Part
from .callbacks import Callback, Progress
from .schedules import Schedule
from .task import Task

if TYPE_CHECKING:
    from .run import TrainingRun
    from .trainer import Trainer

_MEMORY = 0.98  # of the mean of losses
_DIVERGED = 4.0  # times the least loss
_SKIPPED = 10  # steps at the beginning that suggest nothing


@final
@dataclass(frozen=True)
class RangeTest:
    """Learning rates, the mean of the losses so far at each, and the one where they fall fastest.

    ``suggestion`` is None where the loss never fell.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float | None


def find_learning_rate(
    trainer: "Trainer",
    model: Sequential,
    data: Any,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
) -> RangeTest:
    """Train a copy of a model with a learning rate that grows with each batch.

    Neither the model nor the trainer changes.

    Parameters
    ----------
    trainer, model, data
        As in `Trainer.fit`.
    low, high
        The first and the last rate, on a logarithmic scale.
    steps
        Number of batches, 20 or more; fewer where the loss grows to four times the least.

    Raises
    ------
    ConfigError
        Where a number is out of range.
    """
    if not 0 < low < high or steps < 2 * _SKIPPED:
        raise ConfigError(
            f"the learning rate finder needs low={low} above 0, high={high} above it, "
            f"steps={steps} {2 * _SKIPPED} or more"
        )
    task = data if isinstance(data, Task) else trainer.prepare(model, data)
    optimizer = copy.deepcopy(trainer.optimizer)
    optimizer.reset()
    optimizer.warmup_epochs, optimizer.schedule = 0.0, _Growing(low, high, steps, task.n_batches)
    for settings in optimizer.layers.values():
        settings.pop("schedule", None)
    scale = optimizer.learning_rate
    optimizer.layers = {  # layers keep their share of the rate
        name: settings | {"learning_rate": settings["learning_rate"] / scale}
        if "learning_rate" in settings
        else settings
        for name, settings in optimizer.layers.items()
    }
    optimizer.learning_rate = 1.0
    tester, listener = copy.copy(trainer), _Losses(steps)
    tester.optimizer, tester.epochs = optimizer, -(-steps // task.n_batches)
    tester.restore_best = False
    with contextlib.suppress(_EnoughError, DivergedError):
        tester.fit(model.with_params(model.copy_params()), task, [listener])
    rates = [optimizer.schedule.factor(n / task.n_batches) for n in range(len(listener.losses))]
    return RangeTest(rates, listener.losses, _steepest(rates, listener.losses))


@final
class LearningRateFinder(Callback, Part):
    """Tells before a run which learning rate to take; the run itself does not change.

    Parameters
    ----------
    steps
        Batches of the test; None makes none.
    low, high
        See `find_learning_rate`.
    """

    def __init__(self, steps: int | None = 100, low: float = 1e-6, high: float = 10.0) -> None:
        self.steps, self.low, self.high = steps, low, high

    def on_run_start(self, run: "TrainingRun") -> None:
        """Make the test; what it found is told at the end of the run."""
        if self.steps is None:
            return
        found = find_learning_rate(
            run.trainer, run.model, run.task, self.low, self.high, self.steps
        )
        tried = f"of {self.low:g} to {found.rates[-1]:.2g} in {len(found.rates)} steps"
        best = "no rate makes the loss fall"
        if found.suggestion is not None:
            best = f"the loss falls fastest at optimizer.learning_rate={found.suggestion:.2g}"
        run.lines.append(f"rate     {best}, {tried}")


class _EnoughError(Exception):
    """The test is over."""


class _Growing(Schedule):
    """From ``low`` to ``high`` on a logarithmic scale, batch by batch."""

    per_batch = True

    def __init__(self, low: float, high: float, steps: int, n_batches: int) -> None:
        self.low, self.ratio, self.last = low, high / low, (steps - 1) / n_batches

    def factor(self, epoch: float) -> float:
        """Return the rate of this batch."""
        return float(self.low * self.ratio ** (epoch / self.last))


class _Losses(Callback):
    """Keeps a mean of the losses so far, in which older ones count less, and ends the test."""

    def __init__(self, steps: int) -> None:
        self.steps, self.losses, self.mean = steps, list[float](), 0.0

    def on_batch_end(self, progress: Progress) -> None:
        """Take the loss of a batch."""
        self.mean = _MEMORY * self.mean + (1 - _MEMORY) * progress.loss
        n = len(self.losses) + 1
        self.losses.append(self.mean / (1 - _MEMORY**n))
        if n == self.steps or (n > 1 and self.losses[-1] > _DIVERGED * min(self.losses)):
            raise _EnoughError


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    """Return the rate at which the loss falls fastest along the logarithm of the rate."""
    skipped = min(_SKIPPED, len(losses) // 2)
    if len(losses) - skipped < 3:
        return None
    slopes = np.gradient(losses[skipped:-1])
    steepest = int(slopes.argmin())
    return rates[skipped + steepest] if slopes[steepest] < 0 else None
