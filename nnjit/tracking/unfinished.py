"""Runs in a store that did not finish, and whether they can go on."""

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
    """Return the id of a run that can go on, and its checkpoint.

    Parameters
    ----------
    run
        An id, or "latest": the newest run that did not finish, that no process is at work on and
        that can go on. A warning tells where a newer one cannot.
    folders
        Where a checkpoint may lie, see `store_folders`.

    Raises
    ------
    TrackingError
        Where there is no such run, or it cannot go on.
    """
    store = Store.existing(uri, "tracking.root=FOLDER")
    found = _latest(store, folders) if run == "latest" else store.run(run, "resume")
    return found.id, _checkpoint(found, folders)


def _latest(store: Store, folders: Sequence[Path]) -> RecordedRun:
    """Return the newest run that can go on, with a warning where a newer one cannot."""
    newest = None
    for run in store.unfinished():
        if _at_work(run, folders):
            continue
        newest = newest or run
        if not _hindrance(run):
            if run is not newest:
                told = f"resume=latest is run {run.id}, the newest that can go on"
                warnings.warn(f"{told}: {_hindrance(newest)}", stacklevel=3)
            return run
    if newest is None:
        raise TrackingError("resume=latest: the store has no run that was interrupted")
    return newest  # whose hindrance is told


def find_by_checkpoint(path: Path, uri: str) -> str:
    """Return the id of the run of a checkpoint; TrackingError where the store has none."""
    for run in Store.existing(uri, "tracking.root=FOLDER").unfinished():
        named = run.tags.get(CHECKPOINT_TAG)
        if named is not None and os.path.realpath(named) == os.path.realpath(path):
            return run.id
    raise TrackingError(
        f"{path} is of a run on record, which {without_passwords(uri)} does not have, or not as "
        "interrupted: add tracking.root=FOLDER, or tracking.uri"
    )


def _at_work(run: RecordedRun, folders: Sequence[Path]) -> bool:
    named = run.tags.get(CHECKPOINT_TAG)
    return named is not None and is_within(Path(named), folders) and is_held(Path(named))


def _hindrance(run: RecordedRun) -> str:
    """Return why the record of a run says that it cannot go on, or nothing."""
    failure = run.tags.get(FAILURE_TAG, "")
    if run.status == "FINISHED":
        return f"run {run.id} has finished: there is nothing to resume"
    if failure.startswith("DivergedError"):
        return f"run {run.id} would diverge again: {failure.partition(': ')[2]}"
    if CHECKPOINT_TAG not in run.tags:
        return f"run {run.id} has no checkpoint: checkpoint_every was null, start it again"
    return ""


def _checkpoint(run: RecordedRun, folders: Sequence[Path]) -> Path:
    """Return the checkpoint of a run; TrackingError where it cannot go on."""
    if hindrance := _hindrance(run):
        raise TrackingError(hindrance)
    path = within(Path(run.tags[CHECKPOINT_TAG]), folders, "resume")
    if not path.exists():
        raise TrackingError(
            f"the checkpoint of run {run.id} is not at {path}: resume it on the machine where it "
            "ran, or start it again"
        )
    return path


def warn_of_changes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn where the results of a run that goes on may differ in their last bits."""
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
