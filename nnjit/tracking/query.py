"""Reading runs back from a store."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from ..errors import ConfigError, TrackingError

_MOST_TEXT = 200_000  # characters of a configuration
_PAGE = 1000  # runs that MLflow gives at a time
_ATTRIBUTES = ("id", "name", "status", "started", "seconds")


@final
@dataclass(frozen=True)
class RecordedRun:
    """What the store knows of a run without opening its files.

    ``seconds`` is the time from the first to the last call, None while the run goes on.
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
    def keys(self) -> list[str]:
        """The names that `value` knows, the short ones first."""
        tags = [key.removeprefix("nnjit.") for key in self.tags]
        return [*_ATTRIBUTES, *tags, *self.metrics, *self.params]

    def value(self, key: str) -> Any:
        """Return an attribute, a tag (``model``), a metric or a parameter; None where it lacks.

        ``set/metric`` is the value that goes with the parameters of the model, where the run is
        finished, and else the last one.
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


def search_runs(
    client: Any, where: str = "", parent: str = "", most: int | None = None
) -> list[RecordedRun]:
    """Return the runs in the store, newest first.

    Parameters
    ----------
    where
        A condition in MLflow's language, such as ``metrics.`val/accuracy` > 0.6``.
    parent
        The id of a sweep: its runs only.
    most
        Return no more than these.

    Raises
    ------
    ConfigError
        Where MLflow does not understand the condition.
    """
    from mlflow.exceptions import MlflowException

    conditions = ["tags.`nnjit.kind` = 'run'"]
    conditions += [f"tags.`mlflow.parentRunId` = '{parent}'"] * bool(parent)
    conditions += [where] * bool(where)
    experiments = [e.experiment_id for e in client.search_experiments()]
    found: list[RecordedRun] = []
    token = None
    while True:
        try:
            page = client.search_runs(
                experiments, " and ".join(conditions), max_results=most or _PAGE, page_token=token
            )
        except MlflowException as error:
            if not where:
                raise
            raise ConfigError(f"where={where} does not work: {str(error)[:300]}") from None
        found += map(recorded, page)
        token = page.token
        if not token or len(found) == most:
            return found


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


def read_config(mlflow: Any, run_id: str) -> dict[str, Any]:
    """Return the configuration of a run.

    Raises
    ------
    TrackingError
        Where its file is missing or damaged.
    """
    try:
        text = mlflow.artifacts.load_text(f"runs:/{run_id}/config.yaml")
    except (mlflow.exceptions.MlflowException, OSError):
        raise TrackingError(
            f"run={run_id} has no config.yaml among its artifacts: they were moved or deleted"
        ) from None
    import yaml

    try:
        config = yaml.safe_load(text) if len(text) < _MOST_TEXT else None
    except (yaml.YAMLError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise TrackingError(f"run={run_id}: its config.yaml is damaged")
    return config


def metric_history(client: Any, run_id: str, key: str) -> dict[int, float]:
    """Return the values of a metric by epoch; the last one where an epoch was logged again."""
    return {m.step: m.value for m in client.get_metric_history(run_id, key)}
