"""Opens MLflow stores, and turns their errors into `TrackingError`."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, final

from ..errors import TrackingError
from ..runtime import signals
from ..runtime.places import have_home
from ..runtime.secrets import without_passwords
from .address import check_address, few_retries, opening
from .sqlite import sqlite_file

_PATIENCE = 30  # seconds that a server may take to receive a file
_OF_STORES = (
    *("mlflow", "sqlalchemy", "sqlite3", "psycopg", "pymysql"),
    *("requests", "urllib3", "botocore", "boto3", "filelock"),
)


def open_store(uri: str) -> tuple[Any, Any]:
    """Import MLflow, without telemetry and most of its log; return it and a client of the store.

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    """
    check_address(uri)
    # MLflow reads variables when it is imported. The run of another program does not concern ours.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ACTIVE_MODEL_ID", "MLFLOW_ENABLE_ASYNC_LOGGING"):
        os.environ.pop(name, None)
    have_home()
    import logging

    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("mlflow.store", "sqlalchemy.pool"):  # their errors are raised as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _set_tracking_uri(mlflow, uri)
        with opening(uri):
            client = mlflow.MlflowClient(uri)
            if sqlite_file(uri) is not None:
                client = _UninterruptedClient(client)
            client.search_experiments(max_results=1)
    except Exception as error:
        raise TrackingError(_store_problem(uri, error)) from None
    return mlflow, client


@final
class _UninterruptedClient:
    """A client of an SQLite store whose calls are not interrupted: signals wait for their end.

    A transaction that is interrupted keeps its lock on the file as long as the traceback exists,
    and closing the record would wait for that lock.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            with signals.held():
                return attribute(*args, **options)

        return call


def _set_tracking_uri(mlflow: Any, uri: str) -> None:
    """Set MLflow's store in this process, and leave the environment to the user."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@contextlib.contextmanager
def writing(uri: str) -> Iterator[None]:
    """Turn errors of a store, of its network and of its artifacts into `TrackingError`."""
    try:
        with few_retries(_PATIENCE):
            yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _OF_STORES:
            raise
        text = without_passwords(" ".join(str(getattr(error, "orig", None) or error).split()))
        where = without_passwords(uri)
        raise TrackingError(f"cannot write to the store {where}: {_short(text)}") from None


def _short(text: str) -> str:
    """Return the message of a database without the SQL statement."""
    inner = re.search(r"\((?:sqlite3|psycopg\S*|pymysql\S*)\.\w+\) (.*?)(?= \[SQL:|$)", text)
    return (inner[1] if inner else text)[:200]


def _store_problem(uri: str, error: Exception) -> str:
    uri = without_passwords(uri)
    text = without_passwords(" ".join(str(getattr(error, "orig", None) or error).split()))
    if isinstance(error, ModuleNotFoundError):
        package = "'nnjit[server]'" if error.name == "psycopg" else error.name
        return f"the store {uri} needs {error.name}: pip install {package}"
    if "out-of-date" in text or "Can't locate revision" in text:
        return (
            f"the store {uri} was written by another version of MLflow: install that version, or "
            "choose another folder with tracking.root=FOLDER"
        )
    if "_alembic_tmp_" in text or "duplicate column" in text:
        return (
            f"the store {uri} was left half made by a process that was killed: move its file away, "
            "or choose another folder with tracking.root=FOLDER"
        )
    return (
        f"cannot open the store {uri}: {_short(text)}: "
        "set tracking.root or tracking.uri, or tracking=none"
    )
