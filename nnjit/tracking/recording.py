"""How a trained run gets on record: in steps, each of which may fail and be tried again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from ..parts import Part
from ..reporting.messages import explain
from ..training.callbacks import Callback
from ..training.run import Trained, TrainingRun

_PAUSES = (3.0,)  # seconds before what failed is tried again


@final
@dataclass(frozen=True)
class Step:
    """A part of a record, and what writes it; written twice, it is there once."""

    name: str
    write: Callable[[], None]


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


@final
class ModelFile(Callback, Part):
    """Keeps the trained model as a file in the run's folder, before anything that may fail."""

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Write the file; where that fails the run's record lacks it."""

        def write() -> None:
            trained.folder.mkdir(parents=True, exist_ok=True)
            trained.classifier.save(trained.model_file)

        run.missing |= carry_out([Step("the model file", write)], pauses=())
