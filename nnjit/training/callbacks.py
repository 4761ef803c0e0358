"""The interface of callbacks, which observe a training run, and the state that they read."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from ..errors import ConfigError
from ..parts import Part

if TYPE_CHECKING:
    from ..model import Sequential
    from .history import History
    from .optimizers import Optimizer
    from .run import Trained, TrainingRun


@final
@dataclass(frozen=True)
class Position:
    """A position between two batches: after ``epoch`` epochs and ``batch`` batches of the next.

    ``dropout`` is the state of the random stream for dropout in that epoch, None if nothing has
    been drawn; ``seconds`` is the time spent on its batches.
    """

    epoch: int = 0
    batch: int = 0
    dropout: dict[str, Any] | None = None
    seconds: float = 0.0


@final
@dataclass(frozen=True)
class Batch:
    """A batch that a step was made on: its clips are ``rows`` of ``clips``, as the model saw them.

    ``gradients`` are those of the step, by layer and name, before they were clipped.
    """

    clips: Any
    rows: Any
    gradients: Any


@final
@dataclass
class Progress:
    """The progress of a training run; the trainer changes it, callbacks read it.

    ``epoch`` and ``batch`` count from 0; ``loss`` and ``accuracy`` are those of the last batch.
    ``last_batch`` is set in ``on_batch_end`` only; the ``values`` that callbacks add during an
    epoch are recorded with it. ``position`` is where the run could be resumed, None while the
    parameters change.
    """

    model: "Sequential"
    history: "History"
    n_epochs: int
    n_batches: int
    optimizer: "Optimizer | None" = None
    seed: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    stop: bool = False  # a callback that sets it ends the run after this epoch
    best: dict[str, dict[str, Any]] = field(default_factory=dict)  # parameters, if they are saved
    position: Position | None = Position()
    last_batch: Batch | None = None
    values: dict[str, float] = field(default_factory=dict)
    _warm: float = 0.0  # the time at the end of the first batch, which may compile kernels
    _first: int = 0  # the number of that batch, counted over all epochs

    @property
    def finished(self) -> bool:
        """Whether all batches and epochs are done."""
        inside = self.position is None or self.position.batch > 0
        return not inside and (self.stop or len(self.history.epochs) >= self.n_epochs)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def remaining(self) -> float:
        """Estimated seconds to the end; the first batch, which may compile, does not count."""
        done = self.epoch * self.n_batches + self.batch
        total = self.n_epochs * self.n_batches
        if done - self._first < 1:
            return float("nan")
        return (time.perf_counter() - self._warm) / (done - self._first) * (total - done - 1)

    def mark_batch(
        self, batch: int, loss: float, accuracy: float, last: Batch | None = None
    ) -> None:
        """Record a finished batch."""
        self.batch, self.loss, self.accuracy, self.last_batch = batch, loss, accuracy, last
        if not self._warm:
            self._warm = time.perf_counter()
            self._first = self.epoch * self.n_batches + batch


class Callback:
    """Base of all callbacks; its methods do nothing, and a subclass overrides some of them.

    Order of calls: ``on_run_start``; ``on_train_begin``, batches and epochs, ``on_train_end``;
    ``on_run_end``. If the run fails or is interrupted, ``on_exception`` is the last. A `Trainer`
    without a `TrainingRun` calls only the methods of training.
    """

    def on_run_start(self, run: "TrainingRun") -> None:
        """Before training; an exception ends the run."""

    def on_run_end(self, run: "TrainingRun", trained: "Trained") -> None:
        """After training; add lines to print to ``run.lines``, lost data to ``run.missing``."""

    def on_exception(self, run: "TrainingRun", error: BaseException) -> None:
        """After anything that ended the run, KeyboardInterrupt included."""

    def on_train_begin(self, progress: Progress) -> None:
        """Before the first batch; in a resumed run ``progress.history`` has the earlier epochs."""

    def on_batch_end(self, progress: Progress) -> None:
        """After a batch."""

    def on_epoch_end(self, progress: Progress) -> None:
        """After an epoch and its evaluation: ``progress.history.last``."""

    def on_train_end(self, progress: Progress) -> None:
        """After the last epoch; not called when training fails."""

    def on_interrupt(self, progress: Progress) -> None:
        """After Ctrl-C, SIGTERM or the end of the terminal, at any point of training."""


@final
class EarlyStopping(Callback, Part):
    """Stop when the monitored value has not improved for ``patience`` epochs; None never stops.

    Raises
    ------
    ConfigError
        If ``patience`` is below 1.
    """

    def __init__(self, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise ConfigError(
                f"callbacks.early_stopping.patience={patience} must be 1 epoch or more, or null"
            )
        self.patience = patience

    def on_epoch_end(self, progress: Progress) -> None:
        """Stop the run if the best epoch is ``patience`` epochs back."""
        history = progress.history
        if self.patience is None:
            return
        progress.stop |= history.last.epoch - history.best.epoch >= self.patience
