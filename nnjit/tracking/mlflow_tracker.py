"""The tracker that records runs in an MLflow store."""

import contextlib
import os
import shlex
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from ..datasets import DataSplits
from ..errors import TrackingError
from ..reporting import verdict
from ..runtime import signals
from ..runtime.environment import environment
from ..runtime.places import given_path
from ..runtime.secrets import without_passwords
from ..storage.files import weights_digest
from ..training.callbacks import Progress
from ..training.history import Epoch
from ..training.run import RunInfo, Trained, missing_line
from ..training.summary import of_scores, summarise
from .address import few_retries, is_server, store_uri, warn_of_other_store
from .artifacts import Artifacts
from .base import Tracker
from .client import open_store, writing
from .parent import MAX_KEY, MAX_TAG, VARIABLE, MlflowParent
from .predictions import table_of_predictions
from .recording import Step, reason
from .summary import flatten, logged, metric_keys, metrics_digest, table_of_classes
from .unfinished import CHECKPOINT_TAG, FAILURE_TAG, warn_of_changes
from .views import run_page

_FLUSH_SECONDS = 2.0  # between two calls: an epoch may take less time than a call to the store
_MAX_FRACTION = 0.05  # of the time that waiting for a store without an answer may take
_MAX_PARAM = 500
_MAX_BATCH, _MAX_METRICS = 100, 1000  # MLflow's limits for parameters or tags, and for metrics


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
        Name of MLflow's experiment; it is created if it does not exist.
    artifacts
        Folder or address (``s3://...``) of the artifacts of a new experiment in a database; None
        is a folder under ``root``. A tracking server uses its own setting.
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
        self._default_root = Path("runs").resolve()
        self.artifacts = artifacts
        self.run_id = ""
        self._logged: dict[str, int] = {}  # the last step of each metric in the store
        self._pending: list[Any] = []
        self._due = 0.0  # when to flush next
        self._warned = False  # whether a warning said that the store does not answer

    def start(self, info: RunInfo, data: DataSplits) -> None:
        """Create the run, or open it again, with its parameters, data set and configuration.

        Raises
        ------
        TrackingError
            If the store cannot be opened or written.
        """
        self.check_address()
        _, self._client = open_store(self.uri)
        self._info = info
        with writing(self.uri):
            run = self._reopen(info.run_id) if info.run_id else self._create(info)
            self.run_id, self._experiment = run.info.run_id, run.info.experiment_id
            values = {**flatten(info.config), "overrides": " ".join(info.overrides) or "none"}
            self._batch(params={k: str(value)[:_MAX_PARAM] for k, value in values.items()})
            self._client.log_dict(self.run_id, info.config, "config.yaml")
            self._client.log_text(self.run_id, data.describe(), "dataset.txt")
            self._log_dataset(data)

    def _batch(
        self, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Log parameters and tags, in batches that MLflow accepts."""
        from mlflow.entities import Param, RunTag

        for name, kind, values in (("params", Param, params), ("tags", RunTag, tags)):
            entities = [kind(key[:MAX_KEY], value) for key, value in (values or {}).items()]
            for i in range(0, len(entities), _MAX_BATCH):
                batch: dict[str, Any] = {name: entities[i : i + _MAX_BATCH]}
                self._client.log_batch(self.run_id, **batch, synchronous=True)

    def check_address(self) -> None:
        """Warn if MLflow's variable names a store and the configuration does not."""
        if self.uri == store_uri(self._default_root) and VARIABLE not in os.environ:
            warn_of_other_store(self.uri)

    def _create(self, info: RunInfo) -> Any:
        tags = {**environment(), **info.tags, "mlflow.note.content": info.description}
        tags |= {"nnjit.kind": "run", "nnjit.overrides": " ".join(info.overrides)}
        if info.checkpoint is not None:
            tags[CHECKPOINT_TAG] = str(info.checkpoint)
        if parent := os.environ.get(VARIABLE):
            tags["mlflow.parentRunId"] = parent
        experiment = self.experiment_id(self._client)
        tags = {key: value[:MAX_TAG] for key, value in tags.items()}
        return self._client.create_run(experiment, run_name=info.name[:MAX_KEY], tags=tags)

    def _reopen(self, run_id: str) -> Any:
        """Return the run that is resumed, without the status and the reason of its end."""
        run = self._client.get_run(run_id)
        self._logged = {m.key: m.step for m in run.data.to_proto().metrics}
        warn_of_changes(run.data.tags, environment())
        self._client.update_run(run_id, status="RUNNING")
        if FAILURE_TAG in run.data.tags:
            self._client.delete_tag(run_id, FAILURE_TAG)
        times = int(run.data.tags.get("nnjit.resumed", 0)) + 1
        self._client.set_tag(run_id, "nnjit.resumed", str(times))
        return run

    def on_train_begin(self, progress: Progress) -> None:
        """Log the epochs of a resumed run that are not in the store."""
        for epoch in progress.history.epochs:
            self._add_epoch(epoch)

    def on_epoch_end(self, progress: Progress) -> None:
        """Log the epoch, or collect several if they are short.

        If the store does not answer, the values wait for the next call, and training continues.
        """
        self._add_epoch(progress.history.last)
        self._add(progress.values, progress.epoch)
        if time.monotonic() < self._due:
            return
        began, failure = time.monotonic(), ""
        try:
            with writing(self.uri), few_retries():
                self._flush()
        except Exception as error:
            failure = reason(error)
        took = time.monotonic() - began
        self._due = began + took + max(_FLUSH_SECONDS, took / _MAX_FRACTION * bool(failure))
        if failure and not self._warned:
            self._warned = True
            warnings.warn(f"{failure}: metrics wait, training continues", stacklevel=2)

    def tag(self, key: str, value: str) -> None:
        """Set a tag."""
        with contextlib.suppress(Exception):
            self._client.set_tag(self.run_id, key, value[:MAX_TAG])

    def _add_epoch(self, epoch: Epoch) -> None:
        values = {**logged(epoch), **{f"rate/{k}": v for k, v in epoch.rates.items()}}
        self._add({**values, "seconds/train": epoch.train_seconds}, epoch.epoch)

    def _add(self, values: dict[str, float], step: int) -> None:
        """Add values to the next call to the store, without those that it already has."""
        from mlflow.entities import Metric

        now, keys = int(time.time() * 1000), metric_keys(values)
        for name, value in values.items():
            key = keys[name]
            if step > self._logged.get(key, -1):
                self._pending.append(Metric(key, value, now, step))

    def steps(self, trained: Trained) -> list[Step]:
        """Return separate steps that log metrics, predictions, figures and the model."""
        # At step 0, MLflow's pages draw single values as bars.
        self._add(summarise(trained.history, trained.data), 0)
        local = self.root if self.uri == store_uri(self.root) else None
        artifacts = Artifacts(self._client, self.run_id, local)

        def step(name: str, write: Callable[[Trained], None]) -> Step:
            def guarded() -> None:
                with writing(self.uri):
                    write(trained)

            return Step(name, guarded)

        return [
            step("metrics", self._log_results),
            step("predictions", self._log_predictions),
            step("figures", artifacts.log_figures),
            step("the model", artifacts.log_model),
        ]

    def _log_results(self, trained: Trained) -> None:
        history, final = trained.history, trained.history.final
        self._flush()
        undefined = dict.fromkeys(metric for e in final.sets.values() for metric in e.undefined)
        names = [m for m in undefined if any(f"{name}/{m}" in logged(final) for name in final.sets)]
        tags = {f"nnjit.undefined.{key}": "0/0, shown as 0" for key in metric_keys(names).values()}
        tags["nnjit.weights_digest"] = weights_digest(trained.classifier.model)
        tags["nnjit.metrics_digest"] = metrics_digest(history)
        results = verdict.markdown(verdict.accuracies(history, trained.data))
        tags["mlflow.note.content"] = f"{results}\n\n{self._info.description}"[:MAX_TAG]
        self._batch(tags=tags)
        if len(logged(final)) < len(final.flat()):
            table = table_of_classes(final, trained.data.classes)
            self._client.log_text(self.run_id, table, "classes.csv")

    def _log_predictions(self, trained: Trained) -> None:
        """Log the metrics of scores, and a table of predictions with probabilities."""
        if not trained.scores:
            trained.scores.update(of_scores(trained.history, trained.data))
            self._add(trained.scores, 0)
        self._flush()
        table, n_rows = table_of_predictions(trained)
        self._client.log_text(self.run_id, table, "predictions.csv")
        if n_rows < len(trained.data):
            clip = trained.data.encoding.words.clip
            extent = f"{n_rows} of {len(trained.data)} {clip}s, drawn evenly"
            self._batch(tags={"nnjit.predictions": extent})
            warnings.warn(f"predictions.csv has {extent}", stacklevel=2)

    def close(self) -> None:
        """Mark the run FINISHED."""
        with writing(self.uri):
            self._client.set_terminated(self.run_id, "FINISHED")

    def directions(self, trained: Trained, missing: dict[str, str]) -> list[str]:
        """Return lines on how to see and use the run; mark it FAILED if it is incomplete."""
        if not missing:
            inputs = trained.data.encoding.words.option
            command = f"python -m nnjit.predict run={self.run_id} {inputs}"
            line = f"predict  {command}{self._place()}"
            return [*self.where("run", self._experiment, self.run_id), line]
        if "metrics" not in missing:  # else the store probably does not answer either
            self._mark("FAILED", f"its record lacks {missing_line(missing)}")
        where = (
            f"run      {self.run_id} in {without_passwords(self.uri)} lacks {', '.join(missing)}"
        )
        model = [trained.predict_line] if trained.model_file.exists() else []
        return [where, *model, *self._resume_line()]

    def fail(self, reason: str, interrupted: bool = False) -> list[str]:
        """Log pending values, and mark the run FAILED, or KILLED if it was interrupted."""
        if not self.run_id:
            return []
        status = "KILLED" if interrupted else "FAILED"
        written = self._mark(status, reason, flush=True)
        where = without_passwords(self.uri)
        line = f"run      {self.run_id} is on record as {status} in {where}"
        return [line] * written + self._resume_line()

    def _mark(self, status: str, reason: str, flush: bool = False) -> bool:
        """Close the run with a reason; return False if the store cannot be written."""
        try:
            with few_retries(), signals.held():
                if flush:
                    self._flush()
                self._client.set_tag(self.run_id, FAILURE_TAG, reason[:MAX_TAG])
                self._client.set_terminated(self.run_id, status)
        except Exception:  # the error that ended the run is reported instead
            return False
        return True

    def _resume_line(self) -> list[str]:
        return self._info.resume_line(self.run_id + self._place("tracking."))

    def parent(self) -> MlflowParent:
        """Return the tracker of a sweep in the same store."""
        return MlflowParent(self)

    def experiment_id(self, client: Any) -> str:
        """Return the id of the experiment, which is created if it does not exist."""
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                return str(client.create_experiment(self.experiment, self._location()))
            except MlflowException:  # another process has created it
                experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"tracking.experiment={self.experiment} was deleted in "
                f"{without_passwords(self.uri)}: "
                "restore it, or choose another name"
            )
        return str(experiment.experiment_id)

    def _location(self) -> str | None:
        """Return the address for artifacts of a new experiment; None if the server decides."""
        if is_server(self.uri):
            return None
        place = self.artifacts or str(self.root / "artifacts")
        return place if "://" in place else given_path(place).resolve().as_uri()

    def _flush(self) -> None:
        with signals.held():
            while self._pending:
                batch = self._pending[:_MAX_METRICS]
                self._client.log_batch(self.run_id, metrics=batch, synchronous=True)
                del self._pending[: len(batch)]

    def _log_dataset(self, data: DataSplits) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        source = CodeDatasetSource(tags={"nnjit.dataset": data.name})
        dataset = MetaDataset(source, data.name, data.digest)
        tag = InputTag("mlflow.data.context", ", ".join(data.sets()))
        self._client.log_inputs(self.run_id, [DatasetInput(dataset._to_mlflow_entity(), [tag])])

    def where(self, kind: str, experiment: str, run_id: str) -> list[str]:
        """Return lines with the store of a run, and the command or address that opens it."""
        store = without_passwords(self.uri)
        target = f"python -m nnjit.ui run={run_id}{self._place()}"
        if is_server(self.uri):
            target = run_page(store.rstrip("/"), experiment, run_id)
        return [f"{kind:8} {run_id} in {store}", f"open     {target}"]

    def _place(self, prefix: str = "") -> str:
        """Return the options with which another command finds this store."""
        if self.uri != store_uri(self.root):
            return f" {prefix}uri={shlex.quote(without_passwords(self.uri))}"
        if self.root == self._default_root:
            return ""
        return f" {prefix}root={shlex.quote(str(self.root))}"
