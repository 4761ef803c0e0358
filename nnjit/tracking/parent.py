"""The record of a sweep: a parent run, under which the runs of its jobs lie."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..records import FAILED, KILLED, RUNNING, JobRecord
from .store import open_store
from .summary import metric_key

if TYPE_CHECKING:
    from .mlflow_tracker import MlflowTracker

VARIABLE = "NNJIT_PARENT_RUN"  # the parent's id in the environment of every job


@final
@dataclass(frozen=True)
class SweepInfo:
    """What the store is told about a sweep."""

    name: str
    overrides: list[str]
    description: str
    folder: Path


class Parent(ABC):
    """Keeps a record of a sweep. Order of calls: `start`, the jobs, `finish`."""

    run_id = ""

    @abstractmethod
    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Open the record, or open it again where ``run_id`` is set."""

    @abstractmethod
    def finish(
        self,
        status: str,
        records: Sequence[JobRecord],
        description: str,
        means: dict[str, float],
        files: Sequence[Path],
    ) -> list[str]:
        """Close the record, and those of jobs whose process is gone; return where it is."""


@final
class NoParent(Parent):
    """No record; the files stay in the folder of the sweep."""

    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Do nothing."""

    def finish(
        self,
        status: str,
        records: Sequence[JobRecord],
        description: str,
        means: dict[str, float],
        files: Sequence[Path],
    ) -> list[str]:
        """Do nothing."""
        return []


@final
class MlflowParent(Parent):
    """A parent run in the store of a tracker."""

    def __init__(self, tracker: "MlflowTracker") -> None:
        self._tracker = tracker

    def start(self, info: SweepInfo, tags: dict[str, str]) -> None:
        """Create the store, the experiment and the run, before any job could."""
        _, self._client = open_store(self._tracker.uri)
        self._experiment = self._tracker.experiment_id(self._client)
        if self.run_id:
            self._client.update_run(self.run_id, status=RUNNING)
            return
        tags |= {
            "nnjit.kind": "sweep",
            "nnjit.overrides": " ".join(info.overrides),
            "nnjit.folder": str(info.folder),
            "mlflow.note.content": info.description,
        }
        run = self._client.create_run(self._experiment, run_name=info.name, tags=tags)
        self.run_id = run.info.run_id

    def finish(
        self,
        status: str,
        records: Sequence[JobRecord],
        description: str,
        means: dict[str, float],
        files: Sequence[Path],
    ) -> list[str]:
        """Log the means, the description and the files; see that every job is on record."""
        from mlflow.entities import Metric

        self._close_children(records)
        now = int(time.time() * 1000)
        metrics = [Metric(metric_key(k), v, now, 0) for k, v in means.items()]
        for i in range(0, len(metrics), 1000):
            self._client.log_batch(self.run_id, metrics=metrics[i : i + 1000])
        for path in files:
            folder = "figures" if path.suffix == ".png" else None
            self._client.log_artifact(self.run_id, str(path), folder)
        self._client.set_tag(self.run_id, "mlflow.note.content", description)
        self._client.set_terminated(self.run_id, status)
        return self._tracker.where("sweep", self._experiment, self.run_id)

    def _close_children(self, records: Sequence[JobRecord]) -> None:
        """Close runs whose process is gone, and record jobs that ended before they had a run."""
        children = self._children()
        for record in records:
            child = children.get(str(record.number))
            if record.status not in (FAILED, KILLED):
                continue
            if child is None:
                tags = {
                    "nnjit.kind": "run",
                    "nnjit.job": str(record.number),
                    "nnjit.overrides": " ".join(record.overrides),
                    "mlflow.parentRunId": self.run_id,
                }
                name = " ".join(record.overrides) or record.model
                child = self._client.create_run(self._experiment, run_name=name, tags=tags)
            if child.info.status == RUNNING:
                self._client.set_tag(child.info.run_id, "nnjit.failure", record.reason)
                self._client.set_terminated(child.info.run_id, record.status)

    def _children(self) -> dict[str, Any]:
        """Return the newest run of each job, by the job's number."""
        found: dict[str, Any] = {}
        token = None
        while token is None or token:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`mlflow.parentRunId` = '{self.run_id}'",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:
                found.setdefault(run.data.tags.get("nnjit.job", ""), run)
            token = page.token or ""
        return found
