"""The checkpoints of a run, in its folder."""

from typing import final

from ..errors import DivergedError
from ..parts import Part
from .callbacks import Callback, Progress
from .checkpoint import Checkpoint
from .run import Trained, TrainingRun


@final
class RunCheckpoint(Callback, Part):
    """Keeps a checkpoint in the folder of the run until the run is on record as a whole.

    Parameters
    ----------
    every
        Seconds from one checkpoint to the next, above 0; None writes none.
    """

    def __init__(self, every: float | None) -> None:
        self.every = every
        self._checkpoint: Checkpoint | None = None

    def on_run_start(self, run: TrainingRun) -> None:
        """Have a file from the start, which says what the run is about."""
        path = run.info.checkpoint
        if path is None or self.every is None:
            return
        self._checkpoint = Checkpoint(path, self.every, run.info.to_plain())
        if not path.exists():
            self._checkpoint.begin()

    def on_train_begin(self, progress: Progress) -> None:
        """Start the clock."""
        if self._checkpoint is not None:
            self._checkpoint.on_train_begin(progress)

    def on_batch_end(self, progress: Progress) -> None:
        """Write, if it is time."""
        if self._checkpoint is not None:
            self._checkpoint.on_batch_end(progress)

    def on_train_end(self, progress: Progress) -> None:
        """Write the end, from which a record that lacks something can be finished."""
        if self._checkpoint is not None:
            self._checkpoint.on_train_end(progress)

    def on_interrupt(self, progress: Progress) -> None:
        """Write, unless the parameters were just changing."""
        if self._checkpoint is not None:
            self._checkpoint.on_interrupt(progress)

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Remove the file where nothing is missing."""
        if self._checkpoint is not None and not run.missing:
            self._checkpoint.remove()

    def on_exception(self, run: TrainingRun, error: BaseException) -> None:
        """Remove the file of a run that diverged: it would only do so again."""
        if self._checkpoint is not None and isinstance(error, DivergedError):
            self._checkpoint.remove()
