"""What a training run has produced so far, epoch by epoch."""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Evaluation:
    """One set, evaluated without dropout: loss and metrics by name, and the confusion matrix."""

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


@final
@dataclass
class History:
    """The epochs of a run, and which of them was best.

    ``monitor`` is ``set/metric``; a loss is best where it is lowest, a metric where it is highest,
    and of equal epochs the first counts.
    """

    monitor: str
    epochs: list[Epoch] = field(default_factory=list)
    restored: bool = False  # the model has the parameters of the best epoch again

    @property
    def last(self) -> Epoch:
        """The newest epoch."""
        return self.epochs[-1]

    @property
    def final(self) -> Epoch:
        """The epoch whose parameters the model has: the last, or the best where restored."""
        return self.best if self.restored else self.last

    @property
    def best(self) -> Epoch:
        """The epoch that is best by ``monitor``."""
        name, _, metric = self.monitor.partition("/")
        sign = -1 if metric == "loss" else 1
        return max(self.epochs, key=lambda epoch: sign * epoch.sets[name].values[metric])
