"""How a run that was trained gets on record: in steps, each of which may fail and be tried again.

The model comes first, as a file in the run's folder, which depends on no store.
"""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..classifier import Classifier
from ..datasets import DataSplits
from ..reporting.messages import explain
from ..training.history import History

MODEL_FILE = "model.pkl"  # in the folder of a run
_PAUSES = (3.0,)  # seconds before what failed is tried again


@final
@dataclass(frozen=True)
class Trained:
    """What training came to, and the folder where files of the run lie."""

    history: History
    data: DataSplits
    classifier: Classifier
    folder: Path

    @property
    def model_file(self) -> Path:
        """Where the model lies, once `keep_model` has written it."""
        return self.folder / MODEL_FILE

    @property
    def predict_line(self) -> str:
        """The line that tells how the model is used from its file."""
        path = shlex.quote(str(self.model_file))
        return f"predict  python -m nnjit.predict model={path} audio=FILE_OR_FOLDER"


@final
@dataclass(frozen=True)
class Step:
    """A part of a record, and what writes it; written twice, it is there once."""

    name: str
    write: Callable[[], None]


def keep_model(trained: Trained) -> dict[str, str]:
    """Write the model file; return the reason where that failed, as `carry_out` does."""

    def write() -> None:
        trained.folder.mkdir(parents=True, exist_ok=True)
        trained.classifier.save(trained.model_file)

    return carry_out([Step("the model file", write)], pauses=())


def carry_out(steps: Sequence[Step], pauses: Sequence[float] | None = None) -> dict[str, str]:
    """Do the steps in order, and those that fail again after each pause.

    Returns
    -------
    dict
        The names of the steps that failed to the last, with the reason in one line.
    """
    missing = _failing(steps)
    for pause in _PAUSES if pauses is None else pauses:
        if not missing:
            break
        time.sleep(pause)
        missing = _failing([step for step in steps if step.name in missing])
    return missing


def _failing(steps: Sequence[Step]) -> dict[str, str]:
    missing = {}
    for step in steps:
        try:
            step.write()
        except Exception as error:
            missing[step.name] = reason(error)
    return missing


def reason(error: BaseException) -> str:
    """Return what an error says in one line."""
    text = " ".join(str(error).split())
    return (explain(error) or f"{type(error).__name__}: {text}")[:500]


def told(missing: dict[str, str]) -> str:
    """Return one line that says what is missing and why."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
