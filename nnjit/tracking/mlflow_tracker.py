"""Runs on record in an MLflow store."""

import errno
import os
import shlex
import shutil
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from .. import __version__, signals
from ..callbacks import Progress
from ..classifier import Classifier
from ..datasets import DataSplits
from ..environment import environment
from ..errors import TrackingError
from ..history import Epoch, History
from ..persistence import weights_digest
from ..places import given_path
from .address import is_server, warn_of_other_store, without_passwords
from .base import RunInfo, Tracker
from .parent import VARIABLE, MlflowParent
from .store import open_store, store_uri
from .summary import flatten, metric_key, metrics_digest, summarise
from .unfinished import CHECKPOINT_TAG, FAILURE_TAG, warn_of_changes
from .views import run_page

_FLUSH_SECONDS = 2.0  # epochs may take milliseconds, a call to the store takes several
_MAX_PARAM = 500
_SPARE = 1 << 20  # bytes that stay free beside a model, for the store


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
    artifacts
        Folder or address (``s3://...``) of the artifacts of a new experiment in a database; None
        is a folder under ``root``. A tracking server decides for itself.
    """

    def __init__(
        self,
        root: str = "runs",
        uri: str | None = None,
        experiment: str = "nnjit",
        artifacts: str | None = None,
    ) -> None:
        self.root, self.experiment = given_path(root).resolve(), experiment
        self.uri = uri or store_uri(self.root)
        self._here = Path("runs").resolve()  # where commands look that are given no root
        self.artifacts = artifacts
        self.run_id = ""
        self._logged: dict[str, int] = {}  # the last step of each metric in the store
        self._pending: list[Any] = []
        self._flushed = 0.0

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Create the run, or open it again, with its parameters, data set and configuration."""
        self.check_address()
        mlflow, self._client = open_store(self.uri)
        self._info = info
        run = self._reopen(info.run_id) if info.run_id else self._create(info)
        self.run_id, self._experiment = run.info.run_id, run.info.experiment_id
        values = {**flatten(info.config), "overrides": " ".join(info.overrides) or "none"}
        params = {key: str(value)[:_MAX_PARAM] for key, value in values.items()}
        entities = mlflow.entities
        self._client.log_batch(
            self.run_id, params=[entities.Param(key, value) for key, value in params.items()]
        )
        self._client.log_dict(self.run_id, info.config, "config.yaml")
        self._client.log_text(self.run_id, data.describe(), "dataset.txt")
        self._log_dataset(data)

    def check_address(self) -> None:
        """Warn where MLflow's variable names a store and the configuration none."""
        if self.uri == store_uri(self._here) and VARIABLE not in os.environ:
            warn_of_other_store(self.uri)

    def _create(self, info: RunInfo) -> Any:
        tags = {**environment(), **info.tags, "mlflow.note.content": info.description}
        tags |= {"nnjit.kind": "run", "nnjit.overrides": " ".join(info.overrides)}
        if info.checkpoint is not None:
            tags[CHECKPOINT_TAG] = str(info.checkpoint)
        if parent := os.environ.get(VARIABLE):
            tags["mlflow.parentRunId"] = parent
        experiment = self.experiment_id(self._client)
        return self._client.create_run(experiment, run_name=info.name, tags=tags)

    def _reopen(self, run_id: str) -> Any:
        """Return a run that goes on, without what was left of its end."""
        run = self._client.get_run(run_id)
        self._logged = {m.key: m.step for m in run.data.to_proto().metrics}
        warn_of_changes(run.data.tags, environment())
        self._client.update_run(run_id, status="RUNNING")
        if FAILURE_TAG in run.data.tags:
            self._client.delete_tag(run_id, FAILURE_TAG)
        times = int(run.data.tags.get("nnjit.resumed", 0)) + 1
        self._client.set_tag(run_id, "nnjit.resumed", str(times))
        # A model means that the run was at its end, and will be there again.
        mine, experiments = f"source_run_id = '{run_id}'", [run.info.experiment_id]
        for model in self._client.search_logged_models(experiments, mine):
            self._client.delete_logged_model(model.model_id)
        return run

    def on_train_begin(self, progress: Progress) -> None:
        """Log the epochs of a run that goes on which had not reached the store."""
        for epoch in progress.history.epochs:
            self._add_epoch(epoch)

    def on_epoch_end(self, progress: Progress) -> None:
        """Log the epoch, together with others where they are short."""
        self._add_epoch(progress.history.last)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def tag(self, key: str, value: str) -> None:
        """Set a tag."""
        self._client.set_tag(self.run_id, key, value)

    def _add_epoch(self, epoch: Epoch) -> None:
        values = {**epoch.flat(), **{f"rate/{k}": v for k, v in epoch.rates.items()}}
        self._add({**values, "seconds/train": epoch.train_seconds}, epoch.epoch)

    def _add(self, values: dict[str, float], step: int) -> None:
        """Note what the next call to the store takes along; not what a run logged before."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in values.items():
            key = metric_key(name)
            if step > self._logged.get(key, -1):
                self._pending.append(Metric(key, value, now, step))

    def finish(self, history: History, data: DataSplits, classifier: Classifier) -> list[str]:
        """Log summary figures, plots and the model; return how to see and use them."""
        self._add(summarise(history, data), 0)  # at step 0, the UI draws single values as bars
        self._flush()
        for metric in sorted({m for e in history.final.sets.values() for m in e.undefined}):
            self._client.set_tag(
                self.run_id, f"nnjit.undefined.{metric_key(metric)}", "0/0, shown as 0"
            )
        digests = {"weights": weights_digest(classifier.model), "metrics": metrics_digest(history)}
        for name, digest in digests.items():
            self._client.set_tag(self.run_id, f"nnjit.{name}_digest", digest)
        self._log_figures(history, data)
        self._log_model(classifier, history.final.epoch)
        self._client.set_terminated(self.run_id, "FINISHED")
        return self._directions()

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Keep what was measured, and mark the run FAILED, or KILLED where a person stopped it."""
        if not self.run_id:
            return []
        self._flush()
        status = "KILLED" if interrupted else "FAILED"
        with signals.held():
            self._client.set_tag(self.run_id, FAILURE_TAG, reason)
            self._client.set_terminated(self.run_id, status)
        where = without_passwords(self.uri)
        line = f"run      {self.run_id} is on record as {status} in {where}"
        return [line, *self._info.resume_line(self.run_id + self._place("tracking."))]

    def parent(self) -> MlflowParent:
        """Return the record of a sweep in the same store."""
        return MlflowParent(self)

    def experiment_id(self, client: Any) -> str:
        """Return the id of the experiment, which is made where it does not exist."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(client.create_experiment(self.experiment, self._location()))
            except MlflowException:  # another process was faster
                found = client.get_experiment_by_name(self.experiment)
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(
                f"tracking.experiment={self.experiment} was deleted in "
                f"{without_passwords(self.uri)}: "
                "restore it, or choose another name"
            )
        return str(found.experiment_id)

    def _location(self) -> str | None:
        """Return where the artifacts of a new experiment go; None where the server knows."""
        if is_server(self.uri):
            return None
        place = self.artifacts or str(self.root / "artifacts")
        return place if "://" in place else given_path(place).resolve().as_uri()

    def _flush(self) -> None:
        with signals.held():
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
        from .. import figures

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

    def _log_model(self, classifier: Classifier, epoch: int) -> None:
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
                    step=epoch,  # whose metrics are the model's
                    signature=signature,
                    pip_requirements=[f"nnjit=={__version__}", f"mlflow=={version('mlflow')}"],
                )

    def _check_space(self, size: int) -> None:
        """Refuse a file that would fill the disk, while the store can still take note of it."""
        local = self.uri == store_uri(self.root)
        if local and shutil.disk_usage(self.root).free < size + _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def where(self, kind: str, experiment: str, run_id: str) -> list[str]:
        """Return lines that tell where a run is, and how to open it."""
        look, shown = f"python -m nnjit.ui run={run_id}{self._place()}", without_passwords(self.uri)
        if is_server(self.uri):
            look = run_page(shown.rstrip("/"), experiment, run_id)
        return [f"{kind:8} {run_id} in {shown}", f"open     {look}"]

    def _place(self, prefix: str = "") -> str:
        """Return the options that lead another command to this store."""
        if self.uri != store_uri(self.root):
            return f" {prefix}uri={shlex.quote(without_passwords(self.uri))}"
        return "" if self.root == self._here else f" {prefix}root={shlex.quote(str(self.root))}"

    def _directions(self) -> list[str]:
        judge = f"python -m nnjit.predict run={self.run_id} audio=FILE_OR_FOLDER{self._place()}"
        return [*self.where("run", self._experiment, self.run_id), f"predict  {judge}"]
