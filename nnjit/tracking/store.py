"""Opening an MLflow store, and finding runs in it."""

import contextlib
import os
from pathlib import Path
from typing import Any

from ..errors import TrackingError


def store_uri(root: Path) -> str:
    """Return the address of the SQLite store in a folder, absolute."""
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def open_store(uri: str) -> tuple[Any, Any]:
    """Import MLflow, quietly and without its telemetry; return it and a client of the store.

    Raises
    ------
    TrackingError
        Where the store cannot be opened.
    """
    # Read once, when mlflow is imported. A run that another program exported is not ours.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.pop("MLFLOW_RUN_ID", None)
    import logging

    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)  # its errors are raised as well
    try:
        mlflow.set_tracking_uri(uri)
        with _alone(uri):  # two processes that migrate a new store at once break it for good
            client = mlflow.MlflowClient(uri)
            client.search_experiments(max_results=1)
    except Exception as error:
        raise TrackingError(_store_problem(uri, error)) from None
    return mlflow, client


def _alone(uri: str) -> Any:
    """Return a context in which no other process opens the same SQLite file."""
    if not uri.startswith("sqlite:///"):
        return contextlib.nullcontext()
    from filelock import FileLock

    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


def _store_problem(uri: str, error: Exception) -> str:
    text = " ".join(str(error).split())
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
        f"cannot open the store {uri}: {text[:200]}: "
        "set tracking.root or tracking.uri, or tracking=none"
    )


def fetch_model(run: str, uri: str) -> tuple[str, Path]:
    """Return the id of a run and the path of its model file, copied here if it is elsewhere.

    Parameters
    ----------
    run
        An id, or "latest": the newest finished run.

    Raises
    ------
    TrackingError
        Where there is no such run, or it has no model.
    """
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise TrackingError(
            f"there is no store at {uri.removeprefix('sqlite:///')}: call this in the folder where "
            "you trained, or add root=FOLDER"
        )
    mlflow, client = open_store(uri)
    run_id = _latest(client) if run == "latest" else run
    try:
        client.get_run(run_id)
    except mlflow.exceptions.MlflowException:
        raise TrackingError(
            f"run={run} does not exist in {uri}: run=latest takes the newest"
        ) from None
    try:
        folder = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model")
    except (mlflow.exceptions.MlflowException, OSError):
        raise TrackingError(f"run={run_id} has no model: it did not finish") from None
    found = next(Path(folder).rglob("model.pkl"), None)
    if found is None:
        raise TrackingError(f"run={run_id} has a model, but not of nnjit")
    return run_id, found


def _latest(client: Any) -> str:
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = client.search_runs(
        experiments,
        "tags.`nnjit.kind` = 'run' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        raise TrackingError("run=latest: the store has no finished run yet")
    return str(found[0].info.run_id)
