"""Learning rate schedules: the factor of the learning rate in epoch e, counted from 0."""

from abc import ABC, abstractmethod
from math import cos, exp, inf, pi
from typing import ClassVar, final

from ..errors import ConfigError
from ..parts import Part
from .history import History


class Schedule(Part, ABC):
    """A factor for each epoch, or where ``per_batch`` for each batch.

    ``epoch`` is then a fraction too: 2.25 is the batch after the first quarter of the third epoch.
    """

    per_batch: ClassVar[bool] = False

    @abstractmethod
    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate in this epoch (0 is the first)."""

    def follow(self, history: History) -> None:
        """Look at the epochs so far, before the first batch and after each epoch.

        What a schedule keeps of it must follow from ``history`` alone: so a run that was
        interrupted goes on with the same rates.
        """


@final
class Constant(Schedule):
    """Always 1."""

    def factor(self, epoch: float) -> float:
        """Return 1."""
        return 1.0


@final
class Exponential(Schedule):
    """``(1 - drop)**(e // period) * exp(-(e mod period) * decay)``.

    Parameters
    ----------
    decay
        The rate of decay inside a period, per epoch.
    period
        Number of epochs after which the decay restarts at a lower level.
    drop
        Fraction by which that level falls with each period, from 0 to below 1.
    """

    def __init__(self, decay: float = 0.05, period: int = 10, drop: float = 0.5) -> None:
        if period < 1 or not 0 <= drop < 1:
            raise ConfigError(
                f"schedule period={period} must be 1 or more, drop={drop} from 0 to below 1"
            )
        self.decay, self.period, self.drop = decay, period, drop

    def factor(self, epoch: float) -> float:
        """Return the factor of this epoch."""
        periods, epochs = divmod(epoch, self.period)
        return float((1 - self.drop) ** periods * exp(-epochs * self.decay))


@final
class InverseTime(Schedule):
    """``1 / (1 + 100 * decay * e)``."""

    def __init__(self, decay: float = 0.001) -> None:
        if decay < 0:
            raise ConfigError(f"schedule decay={decay} must not be negative")
        self.decay = decay

    def factor(self, epoch: float) -> float:
        """Return the factor of this epoch."""
        return 1 / (1 + 100 * self.decay * epoch)


@final
class Cosine(Schedule):
    """From 1 to ``alpha`` along half a cosine, batch by batch (Loshchilov & Hutter 2017).

    Parameters
    ----------
    epochs
        Epochs until ``alpha`` is reached, above 0; it stays there.
    alpha
        The last factor, from 0 to 1.
    """

    per_batch = True

    def __init__(self, epochs: float, alpha: float = 0.0) -> None:
        if not epochs > 0 or not 0 <= alpha <= 1:
            raise ConfigError(
                f"schedule epochs={epochs} must be above 0, alpha={alpha} from 0 to 1"
            )
        self.epochs, self.alpha = epochs, alpha

    def factor(self, epoch: float) -> float:
        """Return the factor of this batch."""
        return _along_cosine(1.0, self.alpha, min(1.0, epoch / self.epochs))


@final
class OneCycle(Schedule):
    """Up to 1, then down to almost nothing, batch by batch along half cosines (Smith 2018).

    It begins with ``1 / div_factor`` and ends with ``1 / (div_factor * final_div_factor)``.

    Parameters
    ----------
    epochs
        Epochs of the whole cycle, above 0.
    pct_start
        Share of them in which the rate grows, above 0 and below 1.
    div_factor, final_div_factor
        1 or more.
    """

    per_batch = True

    def __init__(
        self,
        epochs: float,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        if not epochs > 0 or not 0 < pct_start < 1:
            raise ConfigError(
                f"schedule epochs={epochs} must be above 0, pct_start={pct_start} between 0 and 1"
            )
        if not div_factor >= 1 or not final_div_factor >= 1:
            raise ConfigError(
                f"schedule div_factor={div_factor} and final_div_factor={final_div_factor} "
                "must be 1 or more"
            )
        self.epochs, self.pct_start = epochs, pct_start
        self.div_factor, self.final_div_factor = div_factor, final_div_factor

    def factor(self, epoch: float) -> float:
        """Return the factor of this batch."""
        share, first = min(1.0, epoch / self.epochs), 1 / self.div_factor
        if share < self.pct_start:
            return _along_cosine(first, 1.0, share / self.pct_start)
        rest = (share - self.pct_start) / (1 - self.pct_start)
        return _along_cosine(1.0, first / self.final_div_factor, rest)


@final
class ReduceLROnPlateau(Schedule):
    """Lower after each time that what ``trainer.monitor`` names has not improved for some epochs.

    Parameters
    ----------
    factor
        What each reduction multiplies the learning rate by, above 0 and below 1.
    patience
        Epochs without an improvement after which it is reduced, 1 or more.
    min_delta
        What is less of an improvement counts as none; 0 or more.
    cooldown
        Epochs after a reduction that are not counted, 0 or more.
    min_factor
        The least that is left of the learning rate, from 0 to 1.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_factor: float = 0.0,
    ) -> None:
        if not 0 < factor < 1 or not 0 <= min_factor <= 1:
            raise ConfigError(
                f"schedule factor={factor} must be between 0 and 1, "
                f"min_factor={min_factor} from 0 to 1"
            )
        if patience < 1 or not min_delta >= 0 or cooldown < 0:
            raise ConfigError(
                f"schedule patience={patience} must be 1 epoch or more, min_delta={min_delta} and "
                f"cooldown={cooldown} 0 or more"
            )
        self._reduction, self.patience, self.min_delta = factor, patience, min_delta
        self.cooldown, self.min_factor = cooldown, min_factor
        self._factor = 1.0

    def factor(self, epoch: float) -> float:
        """Return what the reductions so far leave."""
        return self._factor

    def follow(self, history: History) -> None:
        """Count the reductions of all epochs so far, in the order of PyTorch's class."""
        self._factor, best, without, resting = 1.0, -inf, 0, 0
        for epoch in history.epochs:
            score = history.score(epoch)
            better = score > best + self.min_delta
            best, without = (score, 0) if better else (best, without + 1)
            if resting:
                resting, without = resting - 1, 0
            if without >= self.patience:
                self._factor = max(self._factor * self._reduction, self.min_factor)
                without, resting = 0, self.cooldown


def _along_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + cos(pi * share)) / 2


Steady, Linear = Constant, InverseTime  # their names in version 0.1
