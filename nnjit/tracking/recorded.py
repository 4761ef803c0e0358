"""A recorded run as plain values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

_ATTRIBUTES = ("id", "name", "status", "started", "seconds")


@final
@dataclass(frozen=True)
class RecordedRun:
    """The values of a run in the store, without its files.

    ``seconds`` is the time from start to end of the run, None while it is running.
    """

    id: str
    name: str
    status: str
    started: datetime
    seconds: float | None
    experiment_id: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def description(self) -> str:
        """The description on MLflow's page of the run."""
        return self.tags.get("mlflow.note.content", "")

    @property
    def keys(self) -> list[str]:
        """The names that `value` accepts, the short ones first."""
        tags = [key.removeprefix("nnjit.") for key in self.tags]
        return [*_ATTRIBUTES, *tags, *self.metrics, *self.params]

    def value(self, key: str) -> Any:
        """Return an attribute, a tag (``model``), a metric or a parameter, None if it has none.

        ``set/metric`` is the value for the parameters of the model if the run has finished, else
        the last value.
        """
        if key in _ATTRIBUTES:
            return getattr(self, key)
        for tag in (f"nnjit.{key}", key):
            if tag in self.tags:
                return self.tags[tag]
        for metric in (f"final/{key.replace('/', '_', 1)}", key):
            if metric in self.metrics:
                return self.metrics[metric]
        return self.params.get(key)


def recorded(run: Any) -> RecordedRun:
    """Return a run of MLflow as plain values."""
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    started = datetime.fromtimestamp(info.start_time / 1000).astimezone()
    return RecordedRun(
        info.run_id,
        info.run_name,
        info.status,
        started,
        seconds,
        info.experiment_id,
        dict(data.tags),
        dict(data.params),
        dict(data.metrics),
    )
