"""The record of a sweep: a parent run, with the runs of its jobs as children."""

import time
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..errors import TrackingError
from ..runtime.secrets import without_passwords
from ..storage.records import FAILED, FINISHED, KILLED, RUNNING, JobRecord
from .client import open_store, writing
from .summary import metric_keys

if TYPE_CHECKING:
    from .mlflow_tracker import MlflowTracker

JOB_TAG = "nnjit.job"  # the number of a job in its sweep
MAX_KEY, MAX_TAG = 250, 8000  # characters of a name and of a tag in MLflow
VARIABLE = "NNJIT_PARENT_RUN"  # the parent's id in the environment of every job


@final
@dataclass(frozen=True)
class SweepInfo:
    """What the store records of a sweep before its first job."""

    name: str
    overrides: list[str]
    description: str
    folder: Path


@final
@dataclass(frozen=True)
class SweepReport:
    """The results of a sweep; ``means`` are of its variants, by name."""

    status: str
    records: Sequence[JobRecord]
    description: str
    means: dict[str, float]
    files: Sequence[Path]


class Parent(ABC):
    """Records a sweep. Order of calls: `start`, the jobs, `finish`."""

    run_id = ""

    @abstractmethod
    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Open the record."""

    @abstractmethod
    def resume(self, run_id: str, finished: Container[int]) -> None:
        """Open the record again; ``finished`` are the numbers of jobs that are not run again."""

    def is_closed(self, run_id: str) -> bool:
        """Tell whether the record of a sweep, whose jobs have all finished, is complete."""
        return True

    @abstractmethod
    def finish(self, report: SweepReport) -> list[str]:
        """Close the record, and those of jobs without a process; return lines with its address."""


@final
class NoParent(Parent):
    """Records nothing; the files of the sweep are in its folder."""

    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Do nothing."""

    def resume(self, run_id: str, finished: Container[int]) -> None:
        """Do nothing."""

    def finish(self, report: SweepReport) -> list[str]:
        """Do nothing."""
        return []


@final
class MlflowParent(Parent):
    """A parent run in the store of a tracker."""

    def __init__(self, tracker: "MlflowTracker") -> None:
        self._tracker = tracker

    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Create the store, the experiment and the run, before any job does."""
        self._tracker.check_address()
        _, self._client = open_store(self._tracker.uri)
        with writing(self._tracker.uri):
            self._experiment = self._tracker.experiment_id(self._client)
        tags |= {
            "nnjit.kind": "sweep",
            "nnjit.overrides": " ".join(info.overrides),
            "nnjit.folder": str(info.folder),
            "mlflow.note.content": info.description,
        }
        tags = {key: value[:MAX_TAG] for key, value in tags.items()}
        with writing(self._tracker.uri):
            run = self._client.create_run(self._experiment, run_name=info.name[:MAX_KEY], tags=tags)
        self.run_id = run.info.run_id

    def resume(self, run_id: str, finished: Container[int]) -> None:
        """Open the run again; earlier runs of jobs that run again get the kind "superseded"."""
        mlflow, self._client = open_store(self._tracker.uri)
        try:
            self._experiment = self._client.get_run(run_id).info.experiment_id
            self._client.update_run(run_id, status=RUNNING)
        except mlflow.exceptions.MlflowException:
            store = without_passwords(self._tracker.uri)
            raise TrackingError(
                f"the sweep {run_id} is not, or no more, in {store}: restore it, or start a new "
                "one (a search: hydra.sweeper.study=NAME)"
            ) from None
        self.run_id = run_id
        for child in self._children():
            number = child.data.tags.get(JOB_TAG, "")
            if number.isdigit() and int(number) not in finished:
                self._client.set_tag(child.info.run_id, "nnjit.kind", "superseded")
                if child.info.status == RUNNING:
                    self._client.set_terminated(child.info.run_id, KILLED)

    def is_closed(self, run_id: str) -> bool:
        """Tell whether the run is FINISHED."""
        _, client = open_store(self._tracker.uri)
        with writing(self._tracker.uri):
            return bool(client.get_run(run_id).info.status == FINISHED)

    def find(self, run: str) -> Path:
        """Return the folder of an unfinished sweep, given its id or "latest".

        Raises
        ------
        TrackingError
            If there is no such sweep.
        """
        store = without_passwords(self._tracker.uri)
        mlflow, client = open_store(self._tracker.uri)
        if run == "latest":
            experiments = [e.experiment_id for e in client.search_experiments()]
            query = "tags.`nnjit.kind` = 'sweep' and attributes.status != 'FINISHED'"
            order = ["attributes.start_time DESC"]
            sweeps = client.search_runs(experiments, query, order_by=order, max_results=1)
            if not sweeps:
                raise TrackingError(
                    f"resume=latest: no sweep in {store} was interrupted or has a job that failed"
                )
            return self._folder(sweeps[0].data.tags)
        try:
            tags = client.get_run(run).data.tags
        except mlflow.exceptions.MlflowException:
            raise TrackingError(
                f"resume={run} does not exist in {store}: resume=latest takes the newest sweep "
                "that did not finish"
            ) from None
        if tags.get("nnjit.kind") != "sweep":
            raise TrackingError(f"resume={run} is no sweep: leave -m out to resume a single run")
        return self._folder(tags)

    def finish(self, report: SweepReport) -> list[str]:
        """Log the means, the description and the files, and complete the records of jobs."""
        from mlflow.entities import Metric

        now, keys = int(time.time() * 1000), metric_keys(report.means)
        metrics = [Metric(keys[k], v, now, 0) for k, v in report.means.items()]
        with writing(self._tracker.uri):
            self._close_children(report.records)
            for i in range(0, len(metrics), 1000):
                self._client.log_batch(self.run_id, metrics=metrics[i : i + 1000])
            for path in report.files:
                folder = "figures" if path.suffix == ".png" else None
                self._client.log_artifact(self.run_id, str(path), folder)
            self._client.set_tag(self.run_id, "mlflow.note.content", report.description[:MAX_TAG])
            self._client.set_terminated(self.run_id, report.status)
        return self._tracker.where("sweep", self._experiment, self.run_id)

    @staticmethod
    def _folder(tags: dict[str, str]) -> Path:
        if "nnjit.folder" not in tags:
            raise TrackingError("the sweep has no folder on record: start it again")
        return Path(tags["nnjit.folder"])

    def _close_children(self, records: Sequence[JobRecord]) -> None:
        """Close runs without a process, and create runs for jobs that failed without any."""
        children = {c.data.tags.get(JOB_TAG): c for c in self._children()}
        for record in records:
            if record.status not in (FAILED, KILLED):
                continue
            child = children.get(str(record.number))
            if child is None and record.status == KILLED:
                continue  # interrupted before it had a run
            if child is None:
                tags = {
                    "nnjit.kind": "run",
                    JOB_TAG: str(record.number),
                    "nnjit.overrides": " ".join(record.overrides),
                    "mlflow.parentRunId": self.run_id,
                }
                name = " ".join(record.overrides) or record.model
                child = self._client.create_run(
                    self._experiment, run_name=name[:MAX_KEY], tags=tags
                )
            if child.info.status == RUNNING:
                self._client.set_tag(child.info.run_id, "nnjit.failure", record.reason)
                self._client.set_terminated(child.info.run_id, record.status)

    def _children(self) -> list[Any]:
        """Return the runs of the jobs, without superseded ones."""
        query = f"tags.`mlflow.parentRunId` = '{self.run_id}' and tags.`nnjit.kind` = 'run'"
        children: list[Any] = []
        page = None
        while page is None or page.token:
            token = page.token if page else None
            page = self._client.search_runs([self._experiment], query, page_token=token)
            children += page
        return children
