"""Launchers that take the jobs of a sweep to Slurm and to Ray.

A job whose process is killed counts as failed, and the others go on.
"""

import os
import re
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from ...errors import ConfigError, first_line
from ...runtime import signals
from .. import jobs
from .processes import SweepLauncher, one_job

Wait = Callable[[], JobReturn]
_HANDED_ON = ("NNJIT_", "MLFLOW_", "HYDRA_")  # variables that a job on another machine gets too


class LostError(Exception):
    """The process of a job ended without a result."""


class _Launcher(SweepLauncher):
    """Starts the jobs of a sweep somewhere and waits for all of them."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; return their results, in the same order."""
        self._begin()
        sweep = (self._context, self._config, self._task, Singleton.get_state())
        given = [
            (*sweep, initial_job_idx + i, list(overrides))
            for i, overrides in enumerate(job_overrides)
        ]
        returns: dict[int, JobReturn] = {}
        for i, wait in self._started(given):
            returns[i] = _result(wait, given[i])
        return [returns[i] for i in range(len(given))]

    @abstractmethod
    def _started(self, given: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
        """Call ``_job(threads, *job)`` for all jobs in other processes.

        Yields the index of each as it ends, and a function that returns its result or raises
        LostError.
        """


@final
class SubmititLauncher(_Launcher):
    """Runs the jobs as an array of Slurm, or as processes on this machine.

    Parameters
    ----------
    cluster
        "slurm" or "local".
    folder
        Of the scripts and the output of the jobs; ``%j`` is the job's number.
    cpus_per_task
        Cores of each job.
    timeout_min
        Minutes until a job is ended.
    options
        More parameters of submitit's executor.
    """

    def __init__(
        self,
        cluster: str,
        folder: str,
        cpus_per_task: int = 1,
        timeout_min: int = 240,
        options: dict[str, Any] | None = None,
    ) -> None:
        self._cluster, self._folder = cluster, folder
        given = _plain(options)
        self._options = {key: value for key, value in given.items() if value is not None}
        self._options |= {"cpus_per_task": cpus_per_task, "timeout_min": timeout_min}

    def _started(self, given: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
        submitit = _library("submitit", "slurm")
        lost = submitit.core.utils.UncompletedJobError
        submitted: list[Any] = []
        try:
            with signals.held():  # a job that was submitted unnoticed could not be cancelled
                submitted += self._submit(submitit, given)
            waiting = {job.job_id: i for i, job in enumerate(submitted)}
            for job in submitit.helpers.as_completed(submitted, poll_frequency=1):
                yield waiting[job.job_id], partial(_unless_lost, job.result, lost)
        except BaseException:
            for job in submitted:
                job.cancel(check=False)
            raise

    def _submit(self, submitit: Any, given: list[tuple[Any, ...]]) -> list[Any]:
        try:
            executor = submitit.AutoExecutor(self._folder, cluster=self._cluster)
            executor.update_parameters(**self._options)
            threads = [self._options["cpus_per_task"]] * len(given)
            return list(executor.map_array(_job, threads, *zip(*given, strict=True)))
        except (AssertionError, NameError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"hydra.launcher: {first_line(error)}") from None


@final
class RayLauncher(_Launcher):
    """Runs the jobs as tasks of Ray.

    Parameters
    ----------
    address
        Of a running cluster; None starts Ray on this machine.
    cpus_per_task
        Cores of each job.
    init, remote
        More options of ``ray.init`` and ``ray.remote``.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus_per_task: int = 1,
        init: dict[str, Any] | None = None,
        remote: dict[str, Any] | None = None,
    ) -> None:
        self._threads = cpus_per_task
        self._init = {
            "address": address or "local",
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "error",
        } | _plain(init)
        # A killed job that ran again would be on record twice.
        self._remote = {"num_cpus": cpus_per_task, "max_retries": 0} | _plain(remote)

    def _started(self, given: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns
        ray = _library("ray", "ray")
        try:
            ray.init(**self._init)
            call = ray.remote(**self._remote)(_job_elsewhere)
        except (ConnectionError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"hydra.launcher: {first_line(error)}") from None
        place = {k: v for k, v in os.environ.items() if k.startswith(_HANDED_ON)}
        try:
            waiting = [call.remote(os.getcwd(), place, self._threads, *job) for job in given]
            numbers = {ref: i for i, ref in enumerate(waiting)}
            while waiting:
                (ref,), waiting = ray.wait(waiting)
                lost = ray.exceptions.RayError
                yield numbers[ref], partial(_unless_lost, partial(ray.get, ref), lost)
        finally:
            ray.shutdown()


def _job(threads: int, *job: Any) -> JobReturn:
    """Run one job in the process that was started for it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return one_job(*job)


def _job_elsewhere(folder: str, environment: dict[str, str], *job: Any) -> JobReturn:
    """Run one job in the folder and with the settings of the process that started the sweep."""
    if not Path(folder).is_dir():
        raise ConfigError(f"{socket.gethostname()} does not see the folder {folder}: share it")
    os.chdir(folder)
    os.environ.update(environment)
    return _job(*job)


def _unless_lost(wait: Wait, lost: Any) -> JobReturn:
    try:
        return wait()
    except lost as error:
        raise LostError(_reason(error)) from None


def _result(wait: Wait, job: tuple[Any, ...]) -> JobReturn:
    """Return the result of a job, and print it; where its process is gone, record that."""
    config, number, overrides = job[1], job[-2], job[-1]
    folder = Path(config.hydra.sweep.dir)
    try:
        found = wait()
    except LostError as error:
        jobs.lost(folder, number, overrides, str(error))
        found = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        found.return_value = float("nan")  # an exception would keep Hydra from further batches
    else:
        jobs.print_ended(folder, number)
    return found


def _library(name: str, extra: str) -> Any:
    """Import a library that only some launchers need."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"this launcher needs {name}: pip install 'nnjit[{extra}]', or hydra/launcher=basic"
        ) from None


def _plain(options: Any) -> dict[str, Any]:
    found = OmegaConf.to_container(options, resolve=True) if OmegaConf.is_config(options) else None
    return dict(found or options or {})


def _reason(error: BaseException) -> str:
    """Return the line of a log that says what was raised, if something was."""
    lines = [line.strip() for line in str(error).splitlines()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exit): ", line)]
    return raised[-1] if raised else f"its process was killed ({type(error).__name__})"
