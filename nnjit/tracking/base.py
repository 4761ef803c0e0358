"""What a record of a run is, whoever keeps it."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..callbacks import Callback
from ..classifier import Classifier
from ..datasets import DataSplits
from ..history import History
from .parent import NoParent, Parent


@final
@dataclass(frozen=True)
class RunInfo:
    """What the store is told about a run before it starts."""

    name: str
    config: dict[str, Any]
    overrides: list[str]
    tags: dict[str, str]
    description: str
    folder: Path  # of Hydra, for files of this run


class Tracker(Callback, ABC):
    """Keeps a record of one run. Order of calls: `start`, training, `finish` or `fail`."""

    @abstractmethod
    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Open the record."""

    def tag(self, key: str, value: str) -> None:
        """Add a tag to the record of a run that has started."""

    @abstractmethod
    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Add results, figures and the model, and close; return lines that tell a person where."""

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
        self._path = info.folder / "model.pkl"

    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Write the model file."""
        classifier.save(self._path)
        path = shlex.quote(str(self._path))
        return [f"predict  python -m nnjit.predict model={path} audio=FILE_OR_FOLDER"]

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Do nothing."""
        return []
