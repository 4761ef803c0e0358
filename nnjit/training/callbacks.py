"""What may watch a training run. The trainer calls, and knows nothing of who listens."""

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
    """A place between two batches: ``epoch`` whole epochs and ``batch`` batches of the next.

    ``dropout`` is the state of that epoch's random stream, None where nothing was drawn yet;
    ``seconds`` is the time spent on its batches.
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
    """Where a training run stands; the trainer changes it, callbacks read it.

    ``epoch`` and ``batch`` count from 0; ``loss`` and ``accuracy`` are those of the last batch.
    ``last_batch`` is there in ``on_batch_end`` alone; what a callback puts into ``values`` until
    the epoch ends goes on record with it. ``position`` is where the run could go on later, None
    while the parameters change.
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
    best: dict[str, dict[str, Any]] = field(default_factory=dict)  # parameters, where they are kept
    position: Position | None = Position()
    last_batch: Batch | None = None
    values: dict[str, float] = field(default_factory=dict)
    _warm: float = 0.0  # when the first batch, which may compile kernels, was done
    _first: int = 0  # which batch that was, counted over all epochs

    @property
    def finished(self) -> bool:
        """Whether no epoch is to come, nor the rest of one."""
        inside = self.position is None or self.position.batch > 0
        return not inside and (self.stop or len(self.history.epochs) >= self.n_epochs)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def remaining(self) -> float:
        """Seconds to go, judged by all batches but the first, which may have compiled kernels."""
        done = self.epoch * self.n_batches + self.batch
        total = self.n_epochs * self.n_batches
        if done - self._first < 1:
            return float("nan")
        return (time.perf_counter() - self._warm) / (done - self._first) * (total - done - 1)

    def mark_batch(
        self, batch: int, loss: float, accuracy: float, last: Batch | None = None
    ) -> None:
        """Take note of a finished batch."""
        self.batch, self.loss, self.accuracy, self.last_batch = batch, loss, accuracy, last
        if not self._warm:
            self._warm = time.perf_counter()
            self._first = self.epoch * self.n_batches + batch


class Callback:
    """Base of what observes a run; it does nothing, a subclass takes what it wants.

    Order of calls: ``on_run_start``; ``on_train_begin``, batches and epochs, ``on_train_end``;
    ``on_run_end``. Where the run does not come to its end, ``on_exception`` is the last. A
    `Trainer` by itself calls only those of training.
    """

    def on_run_start(self, run: "TrainingRun") -> None:
        """Before training; an exception ends the run."""

    def on_run_end(self, run: "TrainingRun", trained: "Trained") -> None:
        """After training; what is to be told goes to ``run.lines``, what is lost to ``missing``."""

    def on_exception(self, run: "TrainingRun", error: BaseException) -> None:
        """After anything that ended the run, KeyboardInterrupt included."""

    def on_train_begin(self, progress: Progress) -> None:
        """Before the first batch; ``progress.history`` has the epochs of a run that goes on."""

    def on_batch_end(self, progress: Progress) -> None:
        """After a batch."""

    def on_epoch_end(self, progress: Progress) -> None:
        """After an epoch and its evaluation: ``progress.history.last``."""

    def on_train_end(self, progress: Progress) -> None:
        """After the last epoch; not called when training fails."""

    def on_interrupt(self, progress: Progress) -> None:
        """After Ctrl-C, SIGTERM or the end of the terminal, anywhere."""


@final
class EarlyStopping(Callback, Part):
    """Stop when the monitored value has not improved for ``patience`` epochs; None never does.

    Raises
    ------
    ConfigError
        Where ``patience`` is below 1.
    """

    def __init__(self, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise ConfigError(
                f"callbacks.early_stopping.patience={patience} must be 1 epoch or more, or null"
            )
        self.patience = patience

    def on_epoch_end(self, progress: Progress) -> None:
        """Ask for the end where the best epoch lies too far back."""
        history = progress.history
        if self.patience is None:
            return
        progress.stop |= history.last.epoch - history.best.epoch >= self.patience
