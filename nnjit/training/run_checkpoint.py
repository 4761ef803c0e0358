"""The callback that writes the checkpoints of a run to its folder."""

from typing import final

from ..errors import DivergedError
from ..parts import Part
from .callbacks import Callback, Progress
from .checkpoint import Checkpoint
from .run import Trained, TrainingRun


@final
class RunCheckpoint(Callback, Part):
    """Writes a checkpoint to the folder of the run, and deletes it when the record is complete.

    Parameters
    ----------
    every
        Seconds from one checkpoint to the next, above 0; None writes none.
    """

    def __init__(self, every: float | None) -> None:
        self.every = every
        self._checkpoint: Checkpoint | None = None

    def on_run_start(self, run: TrainingRun) -> None:
        """Write a first file with the information about the run."""
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
        """Write a checkpoint if one is due."""
        if self._checkpoint is not None:
            self._checkpoint.on_batch_end(progress)

    def on_train_end(self, progress: Progress) -> None:
        """Write the final state, from which an incomplete record can be completed."""
        if self._checkpoint is not None:
            self._checkpoint.on_train_end(progress)

    def on_interrupt(self, progress: Progress) -> None:
        """Write a checkpoint, unless parameters were being changed."""
        if self._checkpoint is not None:
            self._checkpoint.on_interrupt(progress)

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Remove the file if the record is complete."""
        if self._checkpoint is not None and not run.missing:
            self._checkpoint.remove()

    def on_exception(self, run: TrainingRun, error: BaseException) -> None:
        """Remove the file of a run that diverged: it would diverge again."""
        if self._checkpoint is not None and isinstance(error, DivergedError):
            self._checkpoint.remove()
