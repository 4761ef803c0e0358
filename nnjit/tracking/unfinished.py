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
        An id, or "latest": the newest run that did not finish and that no process is at work on.
    folders
        Where a checkpoint may lie, see `store_folders`.

    Raises
    ------
    TrackingError
        Where there is no such run, or it cannot go on.
    """
    store = Store.existing(uri, "tracking.root=FOLDER")
    if run == "latest":
        found = next((r for r in store.unfinished() if not _at_work(r, folders)), None)
        if found is None:
            raise TrackingError("resume=latest: the store has no run that was interrupted")
    else:
        found = store.run(run, "resume")
    return found.id, _checkpoint(found, folders)


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


def _checkpoint(run: RecordedRun, folders: Sequence[Path]) -> Path:
    """Return the checkpoint of a run; TrackingError where it cannot go on."""
    tags, name = run.tags, f"run {run.id}"
    failure = tags.get(FAILURE_TAG, "")
    if run.status == "FINISHED":
        raise TrackingError(f"{name} has finished: there is nothing to resume")
    if failure.startswith("DivergedError"):
        raise TrackingError(f"{name} would diverge again: {failure.partition(': ')[2]}")
    if CHECKPOINT_TAG not in tags:
        raise TrackingError(f"{name} has no checkpoint: checkpoint_every was null, start it again")
    path = within(Path(tags[CHECKPOINT_TAG]), folders, "resume")
    if not path.exists():
        raise TrackingError(
            f"the checkpoint of {name} is not at {path}: resume it on the machine where it ran, "
            "or start it again"
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
