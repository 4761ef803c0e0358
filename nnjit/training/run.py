"""A training run: its data, model, trainer and callbacks, and its execution from start to end.

The run of a command, a resumed run, a job of a sweep, a trial of a search and a reproduced run are
all a `TrainingRun`. It has no code for the terminal or the store: these are callbacks.
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
    """What the store records of a run before it starts or is resumed.

    ``checkpoint`` is the file from which it can be resumed, None if it writes none. ``run_id`` is
    the id of a resumed run, empty for a new one. ``live_title`` is the title of the progress line
    of a job that may draw one on the terminal of its sweep.
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
        """Return plain values, without those that depend on the location of the folder."""
        return {k: v for k, v in asdict(self).items() if k not in _PLACES}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], checkpoint: Path, run_id: str = "") -> "RunInfo":
        """Return the `RunInfo` from `to_plain`, for a run that is resumed from a checkpoint.

        Raises
        ------
        CheckpointError
            If ``plain`` is anything else.
        """
        kinds = get_type_hints(cls)
        try:
            expect("the run", plain, **{k: kinds[k] for k in kinds if k not in _PLACES})
        except ConfigError as error:
            raise CheckpointError(f"{checkpoint} is damaged or altered: {error}") from None
        return cls(**plain, folder=checkpoint.parent, checkpoint=checkpoint, run_id=run_id)

    def resume_line(self, target: str) -> list[str]:
        """Return a line with the command that resumes the run, if there is a checkpoint."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return []
        return [f"resume   python -m nnjit.run resume={target}"]


_PLACES = ("folder", "checkpoint", "run_id", "live_title")


@final
@dataclass(frozen=True)
class Outcome:
    """The outcome of a training run: the monitored value's name and the summary of the run."""

    monitor: str
    values: dict[str, float]

    @property
    def score(self) -> float:
        """The best value of the monitored metric."""
        return self.values[summary_key("best", self.monitor)]


@final
@dataclass(frozen=True)
class Trained:
    """The result of training, and the folder with the files of the run.

    ``scores`` are values of the summary that are computed only for a run on record.
    """

    history: History
    data: DataSplits
    classifier: Classifier
    folder: Path
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run, with its summary."""
        return Outcome(self.history.monitor, summarise(self.history, self.data) | self.scores)

    @property
    def model_file(self) -> Path:
        """The path of the model file."""
        return self.folder / MODEL_FILE

    @property
    def predict_line(self) -> str:
        """A line with the command that predicts with the model file."""
        path = shlex.quote(str(self.model_file))
        inputs = self.data.encoding.words.option
        return f"predict  python -m nnjit.predict model={path} {inputs}"


@final
@dataclass
class TrainingRun:
    """The parts of a run. Callbacks are called in order at its start, in reverse at its end.

    Attributes
    ----------
    info : RunInfo
        What the store records before the start.
    data, model, trainer, task
        The parts, checked against each other by `Trainer.prepare`.
    callbacks : sequence of Callback
        The observers.
    tags : dict
        Tags that callbacks add to the record at the end of training.
    lines : list of str
        Lines that are printed at the end.
    missing : dict
        What could not be written or recorded, with the reason.
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
        """Train from the beginning or from a state, and call every callback.

        Raises
        ------
        UnrecordedError
            If the model was trained but something could not be written or recorded.
        Exception
            Any error that ended the run, after `Callback.on_exception`.
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
                with contextlib.suppress(Exception):  # the first error is raised below
                    callback.on_exception(self, error)
            raise
        if self.missing:
            raise UnrecordedError(self._lacking(), trained.outcome)
        return trained

    def _lacking(self) -> str:
        """Return one line: what the record of a trained run lacks, and what completes it."""
        resume = [line.split(maxsplit=1)[1] for line in self.lines if line.startswith("resume")]
        remedy = (
            f"{resume[0]} completes the record" if resume else "train again for a complete record"
        )
        lacks = missing_line(self.missing)
        return f"the run has finished training, but its record lacks {lacks}: {remedy}"


def missing_line(missing: dict[str, str]) -> str:
    """Return one line that says what is missing and why."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
