"""A launcher that runs several jobs of a sweep at once on this machine, in processes of joblib.

Each worker is a pool of one process. If a process is killed, only its job is lost, and a new
process runs the next. In one common pool, as in joblib's Parallel, all jobs would be lost.
"""

import os
import queue
import re
import signal
import threading
import time
from abc import ABC
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, final

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict

from ...errors import ConfigError
from ...runtime import signals, threads
from .. import jobs

_busy = threading.Lock()  # in a worker, while it runs a job
_GRACE = 20.0  # seconds that an interrupted job may take to close its record


class SweepLauncher(Launcher, ABC):
    """Base of the launchers, with what Hydra passes to them."""

    def setup(self, *, hydra_context: Any, task_function: Callable[..., Any], config: Any) -> None:
        """Store what Hydra passes about the sweep."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def _begin(self) -> Path:
        """Set up Hydra for the jobs; return the folder of the sweep."""
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        folder = Path(str(self._config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@final
class JoblibLauncher(SweepLauncher):
    """Runs the jobs in ``n_jobs`` processes; -1 means one for each core.

    Raises
    ------
    ConfigError
        If ``n_jobs`` is not valid.
    """

    def __init__(self, n_jobs: int = -1) -> None:
        if not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: use 1 or more, or -1 for all cores")
        self._n_workers = threads.available_cores() if n_jobs == -1 else n_jobs

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; return their results, in the same order."""
        import joblib  # before several threads would import it at once  # noqa: F401

        folder = self._begin()
        sweep_state = (self._context, self._config, self._task, Singleton.get_state())
        n = min(self._n_workers, len(job_overrides))
        n_cores = max(1, threads.available_cores() // n)
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        workers = [_Worker(folder, n_cores) for _ in range(n)]
        for worker in workers:
            free.put(worker)

        def run(number: int, overrides: list[str]) -> JobReturn:
            worker = free.get()
            try:
                return worker.run(*sweep_state, number, overrides)
            finally:
                free.put(worker)

        with ThreadPoolExecutor(n) as slots:
            running = [
                slots.submit(run, initial_job_idx + i, list(overrides))
                for i, overrides in enumerate(job_overrides)
            ]
            try:
                return [future.result() for future in running]
            except BaseException:
                _stop(workers, running)
                raise
            finally:
                for worker in workers:
                    worker.close()


def _stop(workers: Sequence["_Worker"], running: Sequence[Future[JobReturn]]) -> None:
    """Start no more jobs, and let running ones close their records."""
    for future in running:
        future.cancel()
    for worker in workers:
        worker.interrupt()
    wait([future for future in running if not future.cancelled()], _GRACE)


@final
class _Worker:
    """Runs one job after another in a process, which is replaced if it is killed."""

    def __init__(self, folder: Path, n_cores: int) -> None:
        self._folder, self._n_cores = folder, n_cores
        self._pool: Any = None
        self._interrupted = False

    def run(self, *job: Any) -> JobReturn:
        """Run a job in the process; if the process is killed, the job has failed."""
        from joblib.externals.loky.process_executor import (
            BrokenProcessPool,
            ProcessPoolExecutor,
        )

        if self._pool is None:
            cores = {f"{library}_NUM_THREADS": str(self._n_cores) for library in ("OMP", "NUMBA")}
            self._pool = ProcessPoolExecutor(1, initializer=_begin, env=cores)
        try:
            future = self._pool.submit(one_job, *job)
            if self._interrupted:  # before there was a process to send a signal to
                self.interrupt()
            return future.result()
        except BrokenProcessPool as error:
            self.close()
            return self._lost(error, *job[-2:])

    def interrupt(self) -> None:
        """End the job of the process as after Ctrl-C."""
        self._interrupted = True
        for pid in list(self._pool._processes) if self._pool is not None else ():
            os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    def _lost(self, error: Exception, number: int, overrides: list[str]) -> JobReturn:
        match = re.search(r"SIG[A-Z]+|EXIT\(\d+\)", str(error))
        how = f" ({match[0]})" if match else ""
        jobs.lost(self._folder, number, overrides, f"its process was killed{how}")
        lost = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        lost.return_value = float("nan")
        return lost


def _begin() -> None:
    """Set up a new process: it obeys its parent's SIGTERM and ignores Ctrl-C."""
    signals.obey_parent()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """When the parent is gone, end the job as after Ctrl-C, and then this process."""
    while os.getppid() == parent:
        time.sleep(1)
    if _busy.locked():
        os.kill(os.getpid(), signal.SIGTERM)
        _busy.acquire(timeout=_GRACE)
    os._exit(1)  # loky would wait for the next job


def one_job(
    context: Any,
    config: Any,
    task: Callable[..., Any],
    state: dict[Any, Any],
    number: int,
    overrides: list[str],
) -> JobReturn:
    """Run one job in the process of a worker."""
    setup_globals()
    Singleton.set_state(state)
    with _busy:
        return job_here(context, config, task, number, overrides)


def job_here(
    context: Any, config: Any, task: Callable[..., Any], number: int, overrides: list[str]
) -> JobReturn:
    """Compose one job and run it in this process."""
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    return run_job(task, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)
