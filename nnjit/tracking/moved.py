"""Repairs stores that were moved or copied, and copies those that are read-only.

MLflow stores absolute addresses of artifacts, and nnjit those of checkpoints.
"""

import atexit
import contextlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .sqlite import sqlite_file, sqlite_uri

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_TAGS = ("nnjit.checkpoint", "nnjit.folder", "nnjit.started_in")


def readable(uri: str) -> str:
    """Return the address of the store, or of a temporary copy if it is read-only.

    MLflow writes to a store that it opens, and SQLite to its folder.
    """
    path = sqlite_file(uri)
    if path is None or not path.exists():
        return uri
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK):
        return uri
    return sqlite_uri(_copy(path.resolve()))


@cache
def _copy(path: Path) -> Path:
    """Return a copy for this process; its addresses refer to the folder of the original."""
    folder = Path(tempfile.mkdtemp(prefix="nnjit-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copied = folder / path.name
    with _connected(path, "?mode=ro") as source, _connected(copied) as target:
        source.backup(target)
    _mend(copied, path.parent)
    return copied


def mend(path: Path) -> None:
    """Update the addresses of artifacts and checkpoints in a store that was moved or copied.

    A store was moved if an experiment has its artifacts in another folder, but the folders of its
    runs are next to the database.
    """
    for old in _mend(path, path.parent.resolve()):
        warnings.warn(
            f"the store in {old} is now in {path.parent}: its addresses follow", stacklevel=2
        )


def _mend(path: Path, root: Path) -> list[Path]:
    """Change the addresses in the database of folder ``root``; return its previous folders."""
    artifacts = root / "artifacts"
    run_folders = {entry.name for entry in artifacts.iterdir()} if artifacts.is_dir() else set()
    moved_from = []
    with _connected(path) as store, store:
        places = "SELECT experiment_id, artifact_location FROM experiments"
        for experiment, location in store.execute(places).fetchall():
            old = _folder(location)
            if old is None or old == artifacts or old.name != artifacts.name:
                continue
            runs = "SELECT run_uuid FROM runs WHERE experiment_id = ?"
            if run_folders.isdisjoint(run for (run,) in store.execute(runs, (experiment,))):
                continue
            _follow(store, location.rstrip("/"), artifacts.as_uri())
            _follow_tags(store, old.parent, root)
            moved_from.append(old.parent)
    return list(dict.fromkeys(moved_from))


def _follow(store: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _ADDRESSES:
        store.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )


def _follow_tags(store: sqlite3.Connection, old: Path, new: Path) -> None:
    """Change the paths in tags: those in the store's folder, and in the folder around it."""
    query = f"SELECT run_uuid, key, value FROM tags WHERE key IN ({', '.join('?' * len(_TAGS))})"
    for run, key, value in store.execute(query, _TAGS).fetchall():
        for before, after in ((old, new), (old.parent, new.parent)):
            path = Path(value)
            if path.is_relative_to(before) and (after / path.relative_to(before)).exists():
                changed = str(after / path.relative_to(before))
                change = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?"
                store.execute(change, (changed, run, key))
                break


def _folder(location: str | None) -> Path | None:
    """Return the folder of an address of artifacts, None if it is no local folder."""
    address = urlsplit(location or "")
    if address.scheme != "file" or address.netloc:
        return None
    return Path(url2pathname(address.path))


@contextlib.contextmanager
def _connected(path: Path, options: str = "") -> Iterator[sqlite3.Connection]:
    """Connect to a database, and close it at the end, which ``with`` of sqlite3 does not."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}{options}", uri=True)) as store:
        yield store
