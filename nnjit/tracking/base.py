"""The interface of trackers, the callbacks that record a run."""

import shlex
from abc import ABC, abstractmethod
from typing import final

from ..datasets import DataSplits
from ..errors import DivergedError, first_line
from ..parts import Part
from ..training.callbacks import Callback
from ..training.run import RunInfo, Trained, TrainingRun
from .parent import NoParent, Parent
from .recording import Step, carry_out


class Tracker(Callback, Part, ABC):
    """Records one run.

    Order of calls: `start`, training, then the `steps`, `close` if none of them failed, and
    `directions`; or `fail` if the run failed or was interrupted.
    """

    @abstractmethod
    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Open a new record, or the record of ``info.run_id``."""

    def on_run_start(self, run: TrainingRun) -> None:
        """Open the record."""
        self.start(run.info, run.data)

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Record the results of the run, and close the record if it is complete."""
        for key, value in run.tags.items():
            self.tag(key, value)
        run.missing |= carry_out(self.steps(trained))
        run.missing |= {} if run.missing else carry_out([Step("its end", self.close)])
        run.lines += self.directions(trained, run.missing)

    def on_exception(self, run: TrainingRun, error: BaseException) -> None:
        """Close the record of a run that failed or was interrupted."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        lines = self.fail(first_line(Exception(reason)), interrupted)
        if isinstance(error, DivergedError):  # a resumed run would diverge again
            lines = [line for line in lines if not line.startswith("resume")]
        run.lines += lines

    def tag(self, key: str, value: str) -> None:
        """Add a tag to the record of a run that has started."""

    @abstractmethod
    def steps(self, trained: Trained) -> list[Step]:
        """Return the steps that record results, figures and the model."""

    @abstractmethod
    def close(self) -> None:
        """Mark the record as complete."""

    @abstractmethod
    def directions(self, trained: Trained, missing: dict[str, str]) -> list[str]:
        """Return lines with the address of the run and commands that use it.

        Parameters
        ----------
        missing
            The names of the steps that failed, with their reasons; they are recorded too.
        """

    @abstractmethod
    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Close the record of a run that did not finish; return lines with its address."""

    def parent(self) -> Parent:
        """Return the tracker of a sweep whose jobs use this tracker."""
        return NoParent()


@final
class NoTracker(Tracker):
    """Records nothing; the model file is in Hydra's folder of the run."""

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Store the information about the run."""
        self._info = info

    def steps(self, trained: Trained) -> list[Step]:
        """Return no steps."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def directions(self, trained: Trained, missing: dict[str, str]) -> list[str]:
        """Return the command that uses the model, or the one that resumes the run."""
        return self._resume() if missing else [trained.predict_line]

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Return the command that resumes the run."""
        return self._resume()

    def _resume(self) -> list[str]:
        return self._info.resume_line(shlex.quote(str(self._info.folder)))
