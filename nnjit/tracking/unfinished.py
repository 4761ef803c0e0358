"""Finds runs in a store that did not finish and can be resumed."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config.trust import is_within, within
from ..errors import TrackingError
from ..runtime.secrets import without_passwords
from ..training.checkpoint import is_held
from .recorded import RecordedRun
from .store import Store

CHECKPOINT_TAG, FAILURE_TAG = "nnjit.checkpoint", "nnjit.failure"
_BITS = ("version.numpy", "version.numba", "version.nnjit", "mlflow.source.git.commit", "cpu")


def find_unfinished(run: str, uri: str, folders: Sequence[Path]) -> tuple[str, Path]:
    """Return the id of a run that can be resumed, and its checkpoint.

    Parameters
    ----------
    run
        An id, or "latest": the newest unfinished run that is not running and can be resumed. There
        is a warning if a newer one cannot be resumed.
    folders
        The folders in which a checkpoint may be, see `store_folders`.

    Raises
    ------
    TrackingError
        If there is no such run, or it cannot be resumed.
    """
    store = Store.existing(uri, "tracking.root=FOLDER")
    unfinished = _latest(store, folders) if run == "latest" else store.run(run, "resume")
    return unfinished.id, _checkpoint(unfinished, folders)


def _latest(store: Store, folders: Sequence[Path]) -> RecordedRun:
    """Return the newest run that can be resumed, with a warning if a newer one cannot."""
    newest = None
    for run in store.unfinished():
        if _is_running(run, folders):
            continue
        newest = newest or run
        if not _obstacle(run):
            if run is not newest:
                choice = f"resume=latest is run {run.id}, the newest that can be resumed"
                warnings.warn(f"{choice}: {_obstacle(newest)}", stacklevel=3)
            return run
    if newest is None:
        raise TrackingError("resume=latest: the store has no run that was interrupted")
    return newest  # `_checkpoint` raises its obstacle


def find_by_checkpoint(path: Path, uri: str) -> str:
    """Return the id of the run of a checkpoint; TrackingError if the store has none."""
    for run in Store.existing(uri, "tracking.root=FOLDER").unfinished():
        named = run.tags.get(CHECKPOINT_TAG)
        if named is not None and os.path.realpath(named) == os.path.realpath(path):
            return run.id
    raise TrackingError(
        f"{path} is of a run on record, which {without_passwords(uri)} does not have, or not as "
        "interrupted: add tracking.root=FOLDER, or tracking.uri"
    )


def _is_running(run: RecordedRun, folders: Sequence[Path]) -> bool:
    named = run.tags.get(CHECKPOINT_TAG)
    return named is not None and is_within(Path(named), folders) and is_held(Path(named))


def _obstacle(run: RecordedRun) -> str:
    """Return the reason in the record why a run cannot be resumed, or ""."""
    failure = run.tags.get(FAILURE_TAG, "")
    if run.status == "FINISHED":
        return f"run {run.id} has finished: there is nothing to resume"
    if failure.startswith("DivergedError"):
        return f"run {run.id} would diverge again: {failure.partition(': ')[2]}"
    if CHECKPOINT_TAG not in run.tags:
        return f"run {run.id} has no checkpoint: checkpoint_every was null, start it again"
    return ""


def _checkpoint(run: RecordedRun, folders: Sequence[Path]) -> Path:
    """Return the checkpoint of a run; TrackingError if it cannot be resumed."""
    if obstacle := _obstacle(run):
        raise TrackingError(obstacle)
    path = within(Path(run.tags[CHECKPOINT_TAG]), folders, "resume")
    if not path.exists():
        raise TrackingError(
            f"the checkpoint of run {run.id} is not at {path}: resume it on the machine where it "
            "ran, or start it again"
        )
    return path


def warn_of_changes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn if the results of a resumed run may differ in their last bits."""
    changes = [
        f"{key.removeprefix('version.')} was {before.get(key)}, is {now.get(key)}"
        for key in _BITS
        if before.get(key) != now.get(key)
    ]
    if changes:
        warnings.warn(
            "the last bits may differ from those of a run without interruption: "
            + "; ".join(changes),
            stacklevel=2,
        )
