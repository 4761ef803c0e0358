"""What a record of a run is, whoever keeps it."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final, get_type_hints

from ..datasets import DataSplits
from ..errors import CheckpointError, ConfigError
from ..options import expect
from ..training.callbacks import Callback
from .parent import NoParent, Parent
from .recording import Step, Trained, carry_out


@final
@dataclass(frozen=True)
class RunInfo:
    """What the store is told about a run before it starts, or before it goes on.

    ``checkpoint`` is the file that it can go on from, None where it writes none; ``run_id`` is that
    of a run which goes on, empty for a new one.
    """

    name: str
    config: dict[str, Any]
    overrides: list[str]
    tags: dict[str, str]
    description: str
    folder: Path  # of Hydra, for files of this run
    checkpoint: Path | None = None
    run_id: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return plain values without what depends on where the folder is."""
        return {k: v for k, v in asdict(self).items() if k not in _PLACES}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], checkpoint: Path, run_id: str = "") -> "RunInfo":
        """Return what `to_plain` gave, for a run that goes on from a checkpoint.

        Raises
        ------
        CheckpointError
            Where it is something else.
        """
        kinds = get_type_hints(cls)
        try:
            expect("the run", plain, **{k: kinds[k] for k in kinds if k not in _PLACES})
        except ConfigError as error:
            raise CheckpointError(f"{checkpoint} is damaged or altered: {error}") from None
        return cls(**plain, folder=checkpoint.parent, checkpoint=checkpoint, run_id=run_id)

    def resume_line(self, what: str) -> list[str]:
        """Return the line that tells how to go on, where there is a checkpoint to go on from."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return []
        return [f"resume   python -m nnjit.run resume={what}"]


_PLACES = ("folder", "checkpoint", "run_id")


class Tracker(Callback, ABC):
    """Keeps a record of one run.

    Order of calls: `start`, training, then the `steps`, `close` where none of them failed, and
    `directions`; or `fail` where the run did not come to its end.
    """

    @abstractmethod
    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Open the record, again where ``info.run_id`` says so."""

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


def record(
    tracker: Tracker, trained: Trained, missing: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Put what a run came to on record; return lines for a person, and what is missing.

    Parameters
    ----------
    missing
        What is missing already, as `keep_model` returns it.
    """
    missing = missing | carry_out(tracker.steps(trained))
    missing = missing or carry_out([Step("its end", tracker.close)])
    return tracker.directions(trained, missing), missing


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
