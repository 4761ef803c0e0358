"""Learning rate schedules: the factor on the learning rate in epoch e, from 0."""

from abc import ABC, abstractmethod
from math import exp
from typing import final

from ..errors import ConfigError
from ..parts import Part


class Schedule(Part, ABC):
    """A factor for each epoch."""

    @abstractmethod
    def factor(self, epoch: int) -> float:
        """Return what the learning rate is multiplied by in this epoch (0 is the first)."""


@final
class Constant(Schedule):
    """Always 1."""

    def factor(self, epoch: int) -> float:
        """Return 1."""
        return 1.0


@final
class Exponential(Schedule):
    """``(1 - drop)**(e // period) * exp(-(e mod period) * decay)``.

    Parameters
    ----------
    decay
        k, the rate of decay inside a period, per epoch.
    period
        n, epochs after which the decay starts anew from a lower level.
    drop
        d, the share that is lost with each period, from 0 to below 1.
    """

    def __init__(self, decay: float = 0.05, period: int = 10, drop: float = 0.5) -> None:
        if period < 1 or not 0 <= drop < 1:
            raise ConfigError(
                f"schedule period={period} must be 1 or more, drop={drop} from 0 to below 1"
            )
        self.decay, self.period, self.drop = decay, period, drop

    def factor(self, epoch: int) -> float:
        """Return the factor of this epoch."""
        periods, rest = divmod(epoch, self.period)
        return float((1 - self.drop) ** periods * exp(-rest * self.decay))


@final
class InverseTime(Schedule):
    """``1 / (1 + 100 * decay * e)``; decay is k."""

    def __init__(self, decay: float = 0.001) -> None:
        if decay < 0:
            raise ConfigError(f"schedule decay={decay} must not be negative")
        self.decay = decay

    def factor(self, epoch: int) -> float:
        """Return the factor of this epoch."""
        return 1 / (1 + 100 * self.decay * epoch)


Steady, Linear = Constant, InverseTime  # their names in version 0.1
