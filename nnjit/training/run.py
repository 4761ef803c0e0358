"""One training run: what it is made of, how it begins, goes on and ends.

The run of a command, a run that goes on, a job of a sweep, a trial of a search and a run that is
reproduced are all a `TrainingRun`. It knows no terminal and no store: callbacks observe it.
"""

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final, get_type_hints

from ..classifier import Classifier
from ..datasets import DataSplits
from ..errors import CheckpointError, ConfigError, UnrecordedError
from ..model import Sequential
from ..options import expect
from .callbacks import Callback
from .checkpoint import TrainingState
from .history import History
from .summary import summarise, summary_key
from .task import Task
from .trainer import Trainer

MODEL_FILE = "model.pkl"  # in the folder of a run


@final
@dataclass(frozen=True)
class RunInfo:
    """What the store is told about a run before it starts, or before it goes on.

    ``checkpoint`` is the file that it can go on from, None where it writes none; ``run_id`` is that
    of a run which goes on, empty for a new one; ``live_title`` begins the live line of a job of a
    sweep that may draw one on the terminal of the sweep.
    """

    name: str
    config: dict[str, Any]
    overrides: list[str]
    tags: dict[str, str]
    description: str
    folder: Path  # of Hydra, for files of this run
    checkpoint: Path | None = None
    run_id: str = ""
    live_title: str = ""

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


_PLACES = ("folder", "checkpoint", "run_id", "live_title")


@final
@dataclass(frozen=True)
class Outcome:
    """The outcome of a training run: the monitored value's name and the summary of the run."""

    monitor: str
    values: dict[str, float]

    @property
    def score(self) -> float:
        """The best value of what was monitored."""
        return self.values[summary_key("best", self.monitor)]


@final
@dataclass(frozen=True)
class Trained:
    """The result of training, and the folder where files of the run lie.

    ``scores`` are values of the summary that only a run on record has.
    """

    history: History
    data: DataSplits
    classifier: Classifier
    folder: Path
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run, in few numbers."""
        return Outcome(self.history.monitor, summarise(self.history, self.data) | self.scores)

    @property
    def model_file(self) -> Path:
        """Where the model lies, once it is written."""
        return self.folder / MODEL_FILE

    @property
    def predict_line(self) -> str:
        """The line that tells how the model is used from its file."""
        path = shlex.quote(str(self.model_file))
        return f"predict  python -m nnjit.predict model={path} audio=FILE_OR_FOLDER"


@final
@dataclass
class TrainingRun:
    """What a run is made of. Callbacks hear of its beginning in order, of its end in reverse.

    Attributes
    ----------
    info : RunInfo
        What the record says of it.
    data, model, trainer, task
        Its parts, checked against each other by `Trainer.prepare`.
    callbacks : sequence of Callback
        Who observes it.
    tags : dict
        What callbacks add to the record when training has ended.
    lines : list of str
        What a person is told at the end.
    missing : dict
        What could not be kept or put on record, with the reason.
    """

    info: RunInfo
    data: DataSplits
    model: Sequential
    trainer: Trainer
    task: Task
    callbacks: Sequence[Callback]
    tags: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def execute(self, state: TrainingState | None = None) -> Trained:
        """Train from the beginning, or from a state, and let every callback do its part.

        Raises
        ------
        UnrecordedError
            Where the model was trained but something could not be kept.
        Exception
            Whatever ended the run; the callbacks have heard of it.
        """
        try:
            for callback in self.callbacks:
                callback.on_run_start(self)
            history = self.trainer.fit(self.model, self.task, self.callbacks, state)
            classifier = Classifier.of(self.model, self.data)
            trained = Trained(history, self.data, classifier, self.info.folder)
            for callback in reversed(self.callbacks):
                callback.on_run_end(self, trained)
        except BaseException as error:
            for callback in reversed(self.callbacks):
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    callback.on_exception(self, error)
            raise
        if self.missing:
            raise UnrecordedError(self._lacking(), trained.outcome)
        return trained

    def _lacking(self) -> str:
        """Return one line: what the record of a trained run lacks, and what finishes it."""
        resume = [line.split(maxsplit=1)[1] for line in self.lines if line.startswith("resume")]
        remedy = f"{resume[0]} finishes the record" if resume else "train again for a whole record"
        lacks = told(self.missing)
        return f"the run was trained to its end, but its record lacks {lacks}: {remedy}"


def told(missing: dict[str, str]) -> str:
    """Return one line that says what is missing and why."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
