"""The record of runs. This module alone knows MLflow, and imports it when a run is tracked."""

import contextlib
import errno
import os
import shlex
import shutil
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from . import __version__, metrics
from .callbacks import Callback, Progress
from .classifier import Classifier
from .datasets import DataSplits
from .environment import environment
from .errors import TrackingError
from .history import Epoch, History
from .persistence import weights_digest

_FLUSH_SECONDS = 2.0  # epochs may take milliseconds, a call to the store takes several
_MAX_PARAM = 500
_SPARE = 1 << 20  # bytes that stay free beside a model, for the store


@final
@dataclass(frozen=True)
class RunInfo:
    """What the store is told about a run before it starts."""

    name: str
    config: dict[str, Any]
    overrides: list[str]
    tags: dict[str, str]
    description: str
    folder: Path  # of Hydra, for files of this run


class Tracker(Callback, ABC):
    """Keeps a record of one run. Order of calls: `start`, training, `finish` or `fail`."""

    @abstractmethod
    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Open the record."""

    @abstractmethod
    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Add results, figures and the model, and close; return lines that tell a person where."""

    @abstractmethod
    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Close the record of a run that did not end well; return lines that tell where it is."""


@final
class NoTracker(Tracker):
    """No record; the model is left in Hydra's folder of the run."""

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Keep the folder in mind."""
        self._path = info.folder / "model.pkl"

    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Write the model file."""
        classifier.save(self._path)
        return [f"predict  python -m nnjit.predict model={_shell(self._path)} audio=FILE_OR_FOLDER"]

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Do nothing."""
        return []


@final
class MlflowTracker(Tracker):
    """A run in an MLflow store; by default SQLite and a folder of artifacts under ``root``.

    Parameters
    ----------
    root
        Folder of the store, relative to the current folder.
    uri
        Address of another tracking server or database.
    experiment
        Name of MLflow's experiment; made where it does not exist.
    """

    def __init__(
        self, root: str = "runs", uri: str | None = None, experiment: str = "nnjit"
    ) -> None:
        self.root, self.experiment = Path(root).resolve(), experiment
        self.uri = uri or store_uri(self.root)
        self.run_id = ""
        self._pending: list[Any] = []
        self._flushed = 0.0

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Create the run with its parameters, tags, data set and configuration."""
        mlflow, self._client = open_store(self.uri)
        experiment_id = self._experiment_id()
        tags = {**environment(), **info.tags, "mlflow.note.content": info.description}
        tags |= {"nnjit.kind": "run", "nnjit.overrides": " ".join(info.overrides)}
        run = self._client.create_run(experiment_id, run_name=info.name, tags=tags)
        self.run_id, self._experiment = run.info.run_id, experiment_id
        values = {**flatten(info.config), "overrides": " ".join(info.overrides) or "none"}
        params = {key: str(value)[:_MAX_PARAM] for key, value in values.items()}
        entities = mlflow.entities
        self._client.log_batch(
            self.run_id, params=[entities.Param(key, value) for key, value in params.items()]
        )
        self._client.log_dict(self.run_id, info.config, "config.yaml")
        self._client.log_text(self.run_id, data.describe(), "dataset.txt")
        self._log_dataset(data)

    def on_epoch_end(self, progress: Progress) -> None:
        """Log the epoch, together with others where they are short."""
        from mlflow.entities import Metric

        epoch, now = progress.history.last, int(time.time() * 1000)
        values = {**epoch.flat(), **{f"rate/{k}": v for k, v in epoch.rates.items()}}
        values["seconds/train"] = epoch.train_seconds
        self._pending += [Metric(metric_key(k), v, now, epoch.epoch) for k, v in values.items()]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Log summary figures, plots and the model; return how to see and use them."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        summary = summarise(history, data)
        # At step 0, the UI draws single values as bars.
        self._pending += [Metric(metric_key(k), v, now, 0) for k, v in summary.items()]
        self._flush()
        for metric in sorted({m for e in history.final.sets.values() for m in e.undefined}):
            self._client.set_tag(
                self.run_id, f"nnjit.undefined.{metric_key(metric)}", "0/0, shown as 0"
            )
        self._client.set_tag(self.run_id, "nnjit.weights_digest", weights_digest(classifier.model))
        self._log_figures(history, data)
        self._log_model(classifier)
        self._client.set_terminated(self.run_id, "FINISHED")
        return self._directions()

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Keep what was measured, and mark the run FAILED, or KILLED where a person stopped it."""
        if not self.run_id:
            return []
        self._flush()
        self._client.set_tag(self.run_id, "nnjit.failure", reason)
        status = "KILLED" if interrupted else "FAILED"
        self._client.set_terminated(self.run_id, status)
        return [f"run      {self.run_id} is on record as {status} in {self.uri}"]

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            local = self.uri == store_uri(self.root)
            location = (self.root / "artifacts").as_uri() if local else None
            try:
                return str(self._client.create_experiment(self.experiment, location))
            except MlflowException:  # another process was faster
                found = self._client.get_experiment_by_name(self.experiment)
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(
                f"tracking.experiment={self.experiment} was deleted in {self.uri}: "
                "restore it, or choose another name"
            )
        return str(found.experiment_id)

    def _flush(self) -> None:
        for i in range(0, len(self._pending), 1000):
            self._client.log_batch(self.run_id, metrics=self._pending[i : i + 1000])
        self._pending, self._flushed = [], time.monotonic()

    def _log_dataset(self, data: DataSplits) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        source = CodeDatasetSource(tags={"nnjit.dataset": data.name})
        dataset = MetaDataset(source, data.name, data.digest)
        tag = InputTag("mlflow.data.context", ", ".join(data.sets()))
        self._client.log_inputs(self.run_id, [DatasetInput(dataset._to_mlflow_entity(), [tag])])

    def _log_figures(self, history: History, data: DataSplits) -> None:
        from . import figures

        sets = history.final.sets
        drawn = {
            "learning_curves": figures.learning_curves(history, data),
            "confusion_matrix": figures.confusion_matrices(sets, data.classes),
            "precision_recall": figures.precision_recall(sets, data),
            "clips": figures.clips(data.train, data),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, figure in drawn.items():
                figure.savefig(Path(folder) / f"{name}.png", dpi=110)
            self._client.log_artifacts(self.run_id, folder, "figures")

    def _log_model(self, classifier: Classifier) -> None:
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        n_steps = classifier.encoding.n_steps
        signature = ModelSignature(Schema([TensorSpec(np.dtype("uint8"), (-1, n_steps))]))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pkl"
            classifier.save(path)
            self._check_space(path.stat().st_size)
            with warnings.catch_warnings(), mlflow.start_run(run_id=self.run_id):
                # An input example would be run through a second copy of the model: 3 s for a hint.
                warnings.filterwarnings("ignore", ".*input example.*")
                mlflow.pyfunc.log_model(
                    name="model",
                    loader_module="nnjit.pyfunc",
                    data_path=str(path),
                    signature=signature,
                    pip_requirements=[f"nnjit=={__version__}", f"mlflow=={version('mlflow')}"],
                )

    def _check_space(self, size: int) -> None:
        """Refuse a file that would fill the disk, while the store can still take note of it."""
        local = self.uri == store_uri(self.root)
        if local and shutil.disk_usage(self.root).free < size + _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def _directions(self) -> list[str]:
        local = self.uri == store_uri(self.root)
        remote = self.uri.startswith(("http://", "https://"))
        server = self.uri.rstrip("/") if remote else "http://127.0.0.1:5000"
        link = f"{server}/#/experiments/{self._experiment}/runs/{self.run_id}"
        link += "?workflowType=machine_learning"
        start = f"mlflow ui --backend-store-uri {_shell(self.uri)} --workers 1, then "
        here = "" if self.root == Path("runs").resolve() else f" root={_shell(self.root)}"
        where = here if local else f" uri={_shell(self.uri)}"
        return [
            f"run      {self.run_id} in {self.uri}",
            f"open     {'' if remote else start}{link}",
            f"predict  python -m nnjit.predict run={self.run_id} audio=FILE_OR_FOLDER{where}",
        ]


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


def summarise(history: History, data: DataSplits) -> dict[str, float]:
    """Return what stands beside a run in a list: best and final values, baselines, intervals."""
    found: dict[str, float] = {"best/epoch": float(history.best.epoch)}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        found |= {f"{prefix}/{k.replace('/', '_', 1)}": v for k, v in _headline(epoch).items()}
    for name, clips in data.sets().items():
        found[f"baseline/{name}_accuracy"] = metrics.majority_baseline(clips.labels)
        accuracy = history.final.sets[name].values["accuracy"]
        low, high = metrics.wilson_interval(accuracy, len(clips))
        found |= {f"final/{name}_accuracy_low": low, f"final/{name}_accuracy_high": high}
    found["seconds/epoch_mean"] = sum(e.train_seconds for e in history.epochs) / len(history.epochs)
    return found


def _headline(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch without those of single classes."""
    return {key: value for key, value in epoch.flat().items() if key.count("/") == 1}


def metric_key(name: str) -> str:
    """Return a name that MLflow takes: letters, digits and ``_-. :/``, a path without detours."""
    kept = "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)
    return "/".join(part for part in kept.split("/") if part not in ("", ".", ".."))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts and lists as one dict with dotted keys."""
    items: Any = ()
    if isinstance(config, dict):
        items = config.items()
    elif isinstance(config, list) and any(isinstance(v, dict | list) for v in config):
        items = enumerate(config)
    if not items:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _shell(value: object) -> str:
    return shlex.quote(str(value))
