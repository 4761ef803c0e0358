"""Launchers that run the jobs of a sweep on Slurm and on Ray.

A job whose process is killed counts as failed, and the others continue.
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
_COPIED = ("NNJIT_", "MLFLOW_", "HYDRA_")  # environment variables copied to other machines


class LostError(Exception):
    """The process of a job has ended without a result."""


class _Launcher(SweepLauncher):
    """Starts the jobs of a sweep in other processes and waits for all of them."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; return their results, in the same order."""
        self._begin()
        sweep = (self._context, self._config, self._task, Singleton.get_state())
        calls = [
            (*sweep, initial_job_idx + i, list(overrides))
            for i, overrides in enumerate(job_overrides)
        ]
        returns: dict[int, JobReturn] = {}
        for i, wait in self._started(calls):
            returns[i] = _result(wait, calls[i])
        return [returns[i] for i in range(len(calls))]

    @abstractmethod
    def _started(self, calls: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
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
        The folder for scripts and output of the jobs; ``%j`` is the number of a job.
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
        plain_options = _plain(options)
        self._options = {key: value for key, value in plain_options.items() if value is not None}
        self._options |= {"cpus_per_task": cpus_per_task, "timeout_min": timeout_min}

    def _started(self, calls: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
        submitit = _library("submitit", "slurm")
        lost = submitit.core.utils.UncompletedJobError
        submitted: list[Any] = []
        try:
            with signals.held():  # an interrupt here would lose a job, which then runs on
                submitted += self._submit(submitit, calls)
            waiting = {job.job_id: i for i, job in enumerate(submitted)}
            for job in submitit.helpers.as_completed(submitted, poll_frequency=1):
                yield waiting[job.job_id], partial(_unless_lost, job.result, lost)
        except BaseException:
            for job in submitted:
                job.cancel(check=False)
            raise

    def _submit(self, submitit: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
        try:
            executor = submitit.AutoExecutor(self._folder, cluster=self._cluster)
            executor.update_parameters(**self._options)
            threads = [self._options["cpus_per_task"]] * len(calls)
            return list(executor.map_array(_job, threads, *zip(*calls, strict=True)))
        except (AssertionError, NameError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"hydra.launcher: {first_line(error)}") from None


@final
class RayLauncher(_Launcher):
    """Runs the jobs as tasks of Ray.

    Parameters
    ----------
    address
        The address of a running cluster; None starts Ray on this machine.
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
        # No retries: a job that is run again would be recorded twice.
        self._remote = {"num_cpus": cpus_per_task, "max_retries": 0} | _plain(remote)

    def _started(self, calls: list[tuple[Any, ...]]) -> Iterator[tuple[int, Wait]]:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns
        ray = _library("ray", "ray")
        try:
            ray.init(**self._init)
            call = ray.remote(**self._remote)(_job_elsewhere)
        except (ConnectionError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"hydra.launcher: {first_line(error)}") from None
        place = {k: v for k, v in os.environ.items() if k.startswith(_COPIED)}
        try:
            waiting = [call.remote(os.getcwd(), place, self._threads, *job) for job in calls]
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
    """Return the result of a job, and print it; if its process is gone, record that."""
    config, number, overrides = job[1], job[-2], job[-1]
    folder = Path(config.hydra.sweep.dir)
    try:
        result = wait()
    except LostError as error:
        jobs.lost(folder, number, overrides, str(error))
        result = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        result.return_value = float("nan")  # an exception would keep Hydra from further batches
    else:
        jobs.print_ended(folder, number)
    return result


def _library(name: str, extra: str) -> Any:
    """Import an optional library; ConfigError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"this launcher needs {name}: pip install 'nnjit[{extra}]', or hydra/launcher=basic"
        ) from None


def _plain(options: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(options, resolve=True) if OmegaConf.is_config(options) else None
    return dict(plain or options or {})


def _reason(error: BaseException) -> str:
    """Return the last line of a log that names an exception, or that the process was killed."""
    lines = [line.strip() for line in str(error).splitlines()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exit): ", line)]
    return raised[-1] if raised else f"its process was killed ({type(error).__name__})"
