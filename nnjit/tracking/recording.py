"""Records a trained run in steps, each of which may fail and is then repeated."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from ..parts import Part
from ..reporting.messages import explain
from ..training.callbacks import Callback
from ..training.run import Trained, TrainingRun

_PAUSES = (3.0,)  # seconds before failed steps are repeated


@final
@dataclass(frozen=True)
class Step:
    """A part of a record, and the function that writes it, which can be called twice."""

    name: str
    write: Callable[[], None]


def carry_out(steps: Sequence[Step], pauses: Sequence[float] | None = None) -> dict[str, str]:
    """Run the steps in order, and repeat those that fail after each pause.

    Returns
    -------
    dict
        The names of the steps that still failed at the end, with the reason in one line.
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
    """Return the message of an error as one line."""
    text = " ".join(str(error).split())
    return (explain(error) or f"{type(error).__name__}: {text}")[:500]


@final
class ModelFile(Callback, Part):
    """Writes the trained model to the run's folder, before recording, which may fail."""

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Write the file; if that fails, add it to ``run.missing``."""

        def write() -> None:
            trained.folder.mkdir(parents=True, exist_ok=True)
            trained.classifier.save(trained.model_file)

        run.missing |= carry_out([Step("the model file", write)], pauses=())
