"""Addresses of stores: how one is opened in seconds or not at all, and what of it may be shown."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import TrackingError
from ..runtime.places import given_path
from ..runtime.secrets import without_passwords
from .moved import mend
from .sqlite import sqlite_file, sqlite_uri

RUNS = "runs"  # the default of tracking.root, and where hydra.run.dir and hydra.sweep.dir lie
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
_PATIENCE = 5  # seconds, for the first word of a server or a database
_LOCK = 0x6E6E6A6974  # any number, the same in all processes


def store_uri(root: Path) -> str:
    """Return the address of the SQLite store in a folder, absolute."""
    return sqlite_uri(given_path(root).resolve() / "mlflow.db")


def store_folders(options: Mapping[str, str]) -> list[Path]:
    """Return the folders whose files belong to a store: its own, and where runs leave files.

    Parameters
    ----------
    options
        ``tracking.root`` and ``tracking.uri``, where they are given.
    """
    folders = [given_path(options.get("tracking.root", RUNS)), Path(RUNS)]
    file = sqlite_file(options.get("tracking.uri") or "")
    return [*folders, *([file.parent] if file is not None else [])]


def warn_of_other_store(uri: str) -> None:
    """Say so where MLflow's own variable names another store: ours must not follow it unasked."""
    other = os.environ.get("MLFLOW_TRACKING_URI")
    if other and other != uri:
        warnings.warn(
            f"MLFLOW_TRACKING_URI={without_passwords(other)} is not followed: the store is "
            f"{without_passwords(uri)}, and another one where uri= (of nnjit.run: tracking.uri=) "
            "names it",
            stacklevel=2,
        )


def check_address(uri: str) -> None:
    """Raise a TrackingError for what is no address of a store."""
    if uri.startswith("databricks") or uri.split("://")[0].split("+")[0] in _SCHEMES:
        return
    remedy = "write http://HOST:PORT, postgresql://... or sqlite:///FILE"
    if "://" not in uri and re.fullmatch(r"[\w.-]+:\d+/?", uri):
        remedy = f"write http://{uri}"
    elif "://" not in uri:
        remedy = f"write sqlite:///{uri} for a file, root= (tracking.root=) for a folder"
    raise TrackingError(f"{without_passwords(uri)} is no address of a store: {remedy}")


def is_server(uri: str) -> bool:
    """Tell whether the address is that of a tracking server, which keeps the artifacts too."""
    return uri.startswith(("http://", "https://"))


@contextlib.contextmanager
def opening(uri: str) -> Iterator[None]:
    """Hold off other processes that open the same store, and give up soon where none answers.

    MLflow itself tries for minutes, which is right in the middle of a run and wrong for a slip in
    an address.
    """
    with few_retries() if is_server(uri) else database_lock(uri):
        path = sqlite_file(uri)
        if path is not None and path.exists():
            mend(path.absolute())
        elif path is not None:
            _make(path.absolute())
        yield


@contextlib.contextmanager
def database_lock(uri: str) -> Iterator[None]:
    """Hold the lock of a database, which processes take while they make or migrate its tables.

    Two that do so at once break a new database for good, or fail.
    """
    path = sqlite_file(uri)
    if path is not None:
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    elif uri.startswith(("postgresql", "mysql")):
        with _connected(uri):
            yield
    else:
        yield


def _make(path: Path) -> None:
    """Make a store under another name first: a process killed meanwhile leaves none half made."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = path.with_name(f".{path.name}.unfinished")
    for leftover in path.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    # MLflow's default experiment would lie in the current folder, whose name it writes into SQL.
    SqlAlchemyStore(sqlite_uri(unfinished), (path.parent / "artifacts").as_uri())._dispose_engine()
    unfinished.rename(path)


@contextlib.contextmanager
def few_retries(patience: int = _PATIENCE) -> Iterator[None]:
    """Let requests to a server fail soon, unless the user's own settings say otherwise.

    Parameters
    ----------
    patience
        Seconds to wait for an answer.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience),
    }
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[None]:
    """Connect once, which tells at once what is wrong, and hold PostgreSQL's lock meanwhile."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        uri, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": _PATIENCE}
    )
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            lock = sqlalchemy.text("SELECT pg_advisory_lock(:key)")
            connection.execute(lock, {"key": _LOCK})
        yield
