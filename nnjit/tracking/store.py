"""A store of runs, with the methods that commands need: runs, configurations, metrics, models."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from ..errors import ConfigError, TrackingError
from .client import open_store
from .moved import readable
from .recorded import RecordedRun, recorded
from .sqlite import sqlite_file
from .views import view_tag

_MOST_TEXT = 200_000  # characters of a configuration
_PAGE = 1000  # runs that MLflow returns in one call
_OF_KIND = "tags.`nnjit.kind` = '{}'"


@final
class Store:
    """The recorded runs of an MLflow store; other packages do not use its client.

    Attributes
    ----------
    uri
        The address that was opened, that of a copy if the store is read-only.
    """

    def __init__(self, uri: str, mlflow: Any, client: Any) -> None:
        self.uri, self._mlflow, self._client = uri, mlflow, client

    @classmethod
    def existing(cls, uri: str, remedy: str = "root=FOLDER") -> "Store":
        """Open a store, but never create one; ``remedy`` is the option that names it.

        Raises
        ------
        TrackingError
            If there is no store, or it cannot be opened.
        """
        path = sqlite_file(uri)
        if path is not None and not path.exists():
            raise TrackingError(
                f"there is no store at {path}: call this in the folder where you trained, "
                f"or add {remedy}"
            )
        try:
            opened = readable(uri)
            return cls(opened, *open_store(opened))
        except (OSError, sqlite3.Error) as error:
            raise TrackingError(f"cannot read the store {path} ({error}): ask its owner") from None

    def run(self, run: str, kind: str = "run") -> RecordedRun:
        """Return a run.

        Parameters
        ----------
        run
            An id, its first digits, or "latest": the newest finished run, or the newest sweep.
        kind
            The kind of "latest": run or sweep.

        Raises
        ------
        TrackingError
            If there is no such run, or several.
        """
        if run == "latest":
            finished = " and attributes.status = 'FINISHED'" if kind == "run" else ""
            newest = next(self._search(_OF_KIND.format(kind) + finished, 1), None)
            if newest is None:
                state = "finished run" if kind == "run" else kind
                raise TrackingError(f"{kind}=latest: the store has no {state} yet")
            return newest
        where = f"attributes.run_id LIKE '{run}%'"
        first_two = list(self._search(where, 2)) if run.isalnum() else []
        if not first_two:
            raise TrackingError(
                f"{kind}={run} does not exist in the store: {kind}=latest takes the newest"
            )
        if len(first_two) > 1:
            raise TrackingError(f"{kind}={run} is the beginning of several ids: add more digits")
        return first_two[0]

    def runs(self, where: str = "", sweep: str = "", most: int | None = None) -> list[RecordedRun]:
        """Return runs, newest first.

        Parameters
        ----------
        where
            A condition in MLflow's language, such as ``metrics.`val/accuracy` > 0.6``.
        sweep
            A sweep, as in `run`: return only its runs.
        most
            Return at most so many.

        Raises
        ------
        ConfigError
            If MLflow does not accept the condition.
        TrackingError
            If there is no such sweep.
        """
        conditions = [_OF_KIND.format("run")]
        if sweep:
            conditions.append(f"tags.`mlflow.parentRunId` = '{self.run(sweep, 'sweep').id}'")
        conditions += [where] * bool(where)
        try:
            return list(self._search(" and ".join(conditions), most))
        except self._mlflow.exceptions.MlflowException as error:
            if not where:
                raise
            raise ConfigError(f"where={where} does not work: {str(error)[:300]}") from None

    def unfinished(self) -> Iterator[RecordedRun]:
        """Yield the runs that did not finish, newest first."""
        return self._search(f"{_OF_KIND.format('run')} and attributes.status != 'FINISHED'")

    def _search(self, where: str, most: int | None = None) -> Iterator[RecordedRun]:
        """Yield the runs that meet a condition in MLflow's language, newest first."""
        experiments = [e.experiment_id for e in self._client.search_experiments()]
        left, token = most, None
        while left is None or left > 0:
            page = self._client.search_runs(
                experiments,
                where,
                order_by=["attributes.start_time DESC"],
                max_results=min(_PAGE, left or _PAGE),
                page_token=token,
            )
            yield from map(recorded, page)
            token = page.token
            if not token:
                return
            left = left and left - len(page)

    def config(self, run_id: str) -> dict[str, Any]:
        """Return the configuration of a run.

        Raises
        ------
        TrackingError
            If its file is missing or damaged.
        """
        try:
            text = self._mlflow.artifacts.load_text(f"runs:/{run_id}/config.yaml")
        except (self._mlflow.exceptions.MlflowException, OSError):
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

    def metric_history(self, run_id: str, key: str) -> dict[int, float]:
        """Return the values of a metric by epoch; for an epoch logged twice, the last one."""
        return {m.step: m.value for m in self._client.get_metric_history(run_id, key)}

    def model_file(self, run_id: str) -> Path:
        """Return the path of the model file of a run, downloaded if the store is remote.

        Raises
        ------
        TrackingError
            If the run has no model.
        """
        try:
            folder = self._mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model")
        except (self._mlflow.exceptions.MlflowException, OSError):
            raise TrackingError(f"run={run_id} has no model: it did not finish") from None
        path = next(Path(folder).rglob("model.pkl"), None)
        if path is None:
            raise TrackingError(f"run={run_id} has a model, but not of nnjit")
        return path

    def save_view(self, experiment: str, name: str, run_ids: Sequence[str] = ()) -> None:
        """Save a view of these runs, or of all, in MLflow's pages of the experiment.

        A view of the same name is replaced.
        """
        self._client.set_experiment_tag(experiment, *view_tag(name, run_ids))
