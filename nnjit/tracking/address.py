"""Addresses of stores, and the locks and timeouts with which a store is opened."""

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

RUNS = "runs"  # the default of tracking.root, and the parent of hydra.run.dir and hydra.sweep.dir
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
_PATIENCE = 5  # seconds to wait for the first answer of a server or a database
_LOCK = 0x6E6E6A6974  # an arbitrary number, the same in all processes


def store_uri(root: Path) -> str:
    """Return the address of the SQLite store in a folder, absolute."""
    return sqlite_uri(given_path(root).resolve() / "mlflow.db")


def store_folders(options: Mapping[str, str]) -> list[Path]:
    """Return the folders whose files belong to a store: its folder, and that of runs' files.

    Parameters
    ----------
    options
        ``tracking.root`` and ``tracking.uri``, if given.
    """
    folders = [given_path(options.get("tracking.root", RUNS)), Path(RUNS)]
    file = sqlite_file(options.get("tracking.uri") or "")
    return [*folders, *([file.parent] if file is not None else [])]


def warn_of_other_store(uri: str) -> None:
    """Warn if MLflow's environment variable names another store, which nnjit does not use."""
    other = os.environ.get("MLFLOW_TRACKING_URI")
    if other and other != uri:
        warnings.warn(
            f"MLFLOW_TRACKING_URI={without_passwords(other)} is not followed: the store is "
            f"{without_passwords(uri)}, and another one where uri= (of nnjit.run: tracking.uri=) "
            "names it",
            stacklevel=2,
        )


def check_address(uri: str) -> None:
    """Raise TrackingError if this is no address of a store."""
    if uri.startswith("databricks") or uri.split("://")[0].split("+")[0] in _SCHEMES:
        return
    remedy = "write http://HOST:PORT, postgresql://... or sqlite:///FILE"
    if "://" not in uri and re.fullmatch(r"[\w.-]+:\d+/?", uri):
        remedy = f"write http://{uri}"
    elif "://" not in uri:
        remedy = f"write sqlite:///{uri} for a file, root= (tracking.root=) for a folder"
    raise TrackingError(f"{without_passwords(uri)} is no address of a store: {remedy}")


def is_server(uri: str) -> bool:
    """Tell whether the address is that of a tracking server, which also stores the artifacts."""
    return uri.startswith(("http://", "https://"))


@contextlib.contextmanager
def opening(uri: str) -> Iterator[None]:
    """Lock a store against other processes that open it, and use short timeouts.

    MLflow retries for minutes, which is useful during a run, but not for a typing error in an
    address.
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
    """Hold the lock of a database while its tables are created or migrated.

    Two processes that do so at once can damage a new database, or fail.
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
    """Create a store under a temporary name, so that a killed process leaves no incomplete one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = path.with_name(f".{path.name}.unfinished")
    for leftover in path.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    # Without this argument MLflow's default experiment would be in the current folder, whose name
    # MLflow inserts into SQL without escaping.
    SqlAlchemyStore(sqlite_uri(unfinished), (path.parent / "artifacts").as_uri())._dispose_engine()
    unfinished.rename(path)


@contextlib.contextmanager
def few_retries(patience: int = _PATIENCE) -> Iterator[None]:
    """Let requests to a server fail soon, unless the user has set MLflow's variables.

    Parameters
    ----------
    patience
        Seconds to wait for an answer.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience),
    }
    ours = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[None]:
    """Connect once, so that an error is raised early, and hold PostgreSQL's lock meanwhile."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        uri, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": _PATIENCE}
    )
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            lock = sqlalchemy.text("SELECT pg_advisory_lock(:key)")
            connection.execute(lock, {"key": _LOCK})
        yield
