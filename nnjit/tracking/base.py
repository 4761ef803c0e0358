"""What a record of a run is, whoever keeps it: a callback of the run."""

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
    """Keeps a record of one run.

    Order of calls: `start`, training, then the `steps`, `close` where none of them failed, and
    `directions`; or `fail` where the run did not come to its end.
    """

    @abstractmethod
    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Open the record, again where ``info.run_id`` says so."""

    def on_run_start(self, run: TrainingRun) -> None:
        """Open the record."""
        self.start(run.info, run.data)

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Record the outcome of the run, and close the record where it is whole."""
        for key, value in run.tags.items():
            self.tag(key, value)
        run.missing |= carry_out(self.steps(trained))
        run.missing |= {} if run.missing else carry_out([Step("its end", self.close)])
        run.lines += self.directions(trained, run.missing)

    def on_exception(self, run: TrainingRun, error: BaseException) -> None:
        """Close the record of a run that did not end well."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        lines = self.fail(first_line(Exception(reason)), interrupted)
        if isinstance(error, DivergedError):  # the run would only do so again
            lines = [line for line in lines if not line.startswith("resume")]
        run.lines += lines

    def tag(self, key: str, value: str) -> None:
        """Add a tag to the record of a run that has started."""

    @abstractmethod
    def steps(self, trained: Trained) -> list[Step]:
        """Return what puts results, figures and the model on record."""

    @abstractmethod
    def close(self) -> None:
        """Mark the record as whole."""

    @abstractmethod
    def directions(self, trained: Trained, missing: dict[str, str]) -> list[str]:
        """Return lines that tell a person where the run is, and what to do with it.

        Parameters
        ----------
        missing
            The names of the steps that failed, with their reasons; the record is marked so.
        """

    @abstractmethod
    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Close the record of a run that did not end well; return lines that tell where it is."""

    def parent(self) -> Parent:
        """Return the record of a sweep whose jobs are tracked like this."""
        return NoParent()


@final
class NoTracker(Tracker):
    """No record; the model is left in Hydra's folder of the run."""

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Keep the folder in mind."""
        self._info = info

    def steps(self, trained: Trained) -> list[Step]:
        """Return nothing: the model file is all there is."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def directions(self, trained: Trained, missing: dict[str, str]) -> list[str]:
        """Tell how to use the model, or how to go on where it was not written."""
        return self._resume() if missing else [trained.predict_line]

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Tell how to go on."""
        return self._resume()

    def _resume(self) -> list[str]:
        return self._info.resume_line(shlex.quote(str(self._info.folder)))
