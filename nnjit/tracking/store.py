"""Opening an MLflow store, and finding runs in it."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import TrackingError
from ..runtime.places import given_path, have_home
from .address import check_address, few_retries, opening, without_passwords
from .moved import readable
from .sqlite import sqlite_file, sqlite_uri

RUNS = "runs"  # the default of tracking.root, and where hydra.run.dir and hydra.sweep.dir lie
_PATIENCE = 30  # seconds, for a server to take a file
_OF_STORES = (
    *("mlflow", "sqlalchemy", "sqlite3", "psycopg", "pymysql"),
    *("requests", "urllib3", "botocore", "boto3", "filelock"),
)


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


def open_store(uri: str) -> tuple[Any, Any]:
    """Import MLflow, quietly and without its telemetry; return it and a client of the store.

    Raises
    ------
    TrackingError
        Where the store cannot be opened.
    """
    check_address(uri)
    # Read once, when mlflow is imported. What another program exported is not about our runs.
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
            client.search_experiments(max_results=1)
    except Exception as error:
        raise TrackingError(_store_problem(uri, error)) from None
    return mlflow, client


def _set_tracking_uri(mlflow: Any, uri: str) -> None:
    """Set MLflow's store in this process, and leave the environment to the user."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@contextlib.contextmanager
def writing(uri: str) -> Iterator[None]:
    """Turn errors of a store, of what lies before it and of its artifacts into `TrackingError`."""
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
    """Return what a database says, without the statement that it was about."""
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


def open_existing(uri: str, remedy: str = "root=FOLDER") -> tuple[Any, Any]:
    """Do as `open_store`, but never make a new store; ``remedy`` is the option that names it.

    Raises
    ------
    TrackingError
        Where there is no store, or it cannot be opened.
    """
    path = sqlite_file(uri)
    if path is not None and not path.exists():
        raise TrackingError(
            f"there is no store at {path}: call this in the folder where you trained, "
            f"or add {remedy}"
        )
    try:
        return open_store(readable(uri))
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(f"cannot read the store {path} ({error}): ask its owner") from None


def find_run(client: Any, run: str, kind: str = "run") -> Any:
    """Return a run of the store as MLflow has it.

    Parameters
    ----------
    run
        An id, the first digits of one, or "latest": the newest finished run, or the newest sweep.
    kind
        What "latest" is about: run, sweep.

    Raises
    ------
    TrackingError
        Where there is no such run, or several.
    """
    if run == "latest":
        finished = " and attributes.status = 'FINISHED'" if kind == "run" else ""
        found = _search(client, f"tags.`nnjit.kind` = '{kind}'{finished}", 1)
        if not found:
            state = "finished run" if kind == "run" else kind
            raise TrackingError(f"{kind}=latest: the store has no {state} yet")
        return found[0]
    found = _search(client, f"attributes.run_id LIKE '{run}%'", 2) if run.isalnum() else []
    if not found:
        raise TrackingError(
            f"{kind}={run} does not exist in the store: {kind}=latest takes the newest"
        )
    if len(found) > 1:
        raise TrackingError(f"{kind}={run} is the beginning of several ids: add more digits")
    return found[0]


def _search(client: Any, where: str, most: int) -> Any:
    experiments = [e.experiment_id for e in client.search_experiments()]
    newest = ["attributes.start_time DESC"]
    return client.search_runs(experiments, where, order_by=newest, max_results=most)


def fetch_model(run: str, uri: str) -> tuple[str, Path]:
    """Return the id of a run and the path of its model file, copied here if it is elsewhere.

    Parameters
    ----------
    run
        As `find_run` takes it.

    Raises
    ------
    TrackingError
        Where there is no such run, or it has no model.
    """
    mlflow, client = open_existing(uri)
    run_id = find_run(client, run).info.run_id
    try:
        folder = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model")
    except (mlflow.exceptions.MlflowException, OSError):
        raise TrackingError(f"run={run_id} has no model: it did not finish") from None
    found = next(Path(folder).rglob("model.pkl"), None)
    if found is None:
        raise TrackingError(f"run={run_id} has a model, but not of nnjit")
    return run_id, found
