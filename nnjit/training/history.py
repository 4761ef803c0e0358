"""The history of a training run: learning rates and evaluations of each epoch."""

from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .metrics import higher_is_better, scores


@final
@dataclass(frozen=True)
class Evaluation:
    """One set, evaluated without dropout: loss and metrics by name, and the confusion matrix.

    ``probabilities`` (N, units) are stored for the best and the last epoch, and empty in others.
    """

    values: dict[str, float]
    undefined: list[str]
    confusion: NDArray[np.int64]
    probabilities: NDArray[Any]


@final
@dataclass(frozen=True)
class Epoch:
    """The state after an epoch: learning rates by layer, an evaluation for each set."""

    epoch: int
    rates: dict[str, float]
    sets: dict[str, Evaluation]
    train_seconds: float

    def flat(self) -> dict[str, float]:
        """Return the values as ``set/metric``."""
        return {f"{s}/{k}": v for s, e in self.sets.items() for k, v in e.values.items()}

    def completed(self, positive: int, classes: tuple[str, ...]) -> "Epoch":
        """Return the epoch with all metrics that follow from the confusion matrix.

        An epoch that was evaluated by an older version lacks some of them.
        """
        return replace(
            self, sets={name: _completed(e, positive, classes) for name, e in self.sets.items()}
        )

    def without_probabilities(self) -> "Epoch":
        """Return the epoch with empty probabilities."""
        empty = np.empty(0, np.float32)
        return replace(
            self, sets={name: replace(e, probabilities=empty) for name, e in self.sets.items()}
        )


def _completed(e: Evaluation, positive: int, classes: tuple[str, ...]) -> Evaluation:
    values, undefined = scores(e.confusion, positive, classes)
    return replace(
        e,
        values={**e.values, **{k: v for k, v in values.items() if k not in e.values}},
        undefined=[*e.undefined, *(k for k in undefined if k not in e.values)],
    )


@final
@dataclass
class History:
    """The epochs of a run, and which of them is the best.

    ``monitor`` is ``set/metric``; the table of metrics says whether higher is better. Of equal
    epochs the first is the best. Only `add` appends to ``epochs``.
    """

    monitor: str
    epochs: list[Epoch] = field(default_factory=list, init=False)
    restored: bool = False  # whether the model has the parameters of the best epoch
    _best: int = field(default=0, init=False)

    def add(self, epoch: Epoch) -> None:
        """Append an epoch; those that are neither best nor last lose their probabilities."""
        stale = {self._best, len(self.epochs) - 1}
        self.epochs.append(epoch)
        if self.score(epoch) > self.score(self.best):
            self._best = len(self.epochs) - 1
        for i in stale - {self._best, -1}:
            self.epochs[i] = self.epochs[i].without_probabilities()

    def complete(self, positive: int, classes: tuple[str, ...]) -> None:
        """Add to every epoch the metrics that an older version did not compute."""
        self.epochs = [epoch.completed(positive, classes) for epoch in self.epochs]

    @property
    def last(self) -> Epoch:
        """The newest epoch."""
        return self.epochs[-1]

    @property
    def final(self) -> Epoch:
        """The epoch whose parameters the model has: the last, or the best if restored."""
        return self.best if self.restored else self.last

    @property
    def best(self) -> Epoch:
        """The best epoch by ``monitor``."""
        return self.epochs[self._best]

    def score(self, epoch: Epoch) -> float:
        """Return the monitored value of an epoch, negative where less of it is better."""
        name, _, metric = self.monitor.partition("/")
        value = epoch.sets[name].values[metric]
        return value if higher_is_better(self.monitor) else -value
