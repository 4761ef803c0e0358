"""Threads: one count for the whole process, and loops over independent pieces of work.

Results never depend on the number of threads: only the shape of the data decides the pieces, each
piece writes its own output, and sums are taken in the order of the pieces.

Python handles a signal only in the main thread, and only between two calls of kernels. Therefore
no call is long. When one thread fails or is interrupted, the others stop before their next call.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any, final

import numba
import numpy as np
from numba.core import event
from threadpoolctl import threadpool_limits

from ..errors import ConfigError
from ..kernels.team import BEGUN, DONE, POSTED, SPINNING, hand_over, spin, spin_for_job
from . import signals

# Some milliseconds of spinning: waking a sleeping thread takes as long as a small batch.
_max_spins = 5_000_000
# Some microseconds: until a worker has begun its only kernel, and until it has run its Python code
# between two kernels. Two threads that return to Python at the same time compete for the GIL.
_BEGIN_SPINS, _APART_SPINS = 3_000, 20_000
_WORTH_A_SPAN = 1e6  # multiplications for which handing work to another thread pays
MOST_IN_A_CALL = 2e9  # multiplications: a tenth of a second of a slow core
_SLEEP_SECONDS = 2e-4  # while a worker does long work
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_n_threads = 0
_workers: list["_Worker"] = []
# Locked while the workers are in use. A signal between two instructions may leave it locked by a
# thread that has stopped using them. That thread can acquire it again, and then releases it fully.
_busy = threading.RLock()


@final
class _Inside(threading.local):
    """The state of the current thread."""

    worker = False  # whether it is a worker of another thread
    errors: list[BaseException] | None = None  # of the parallel region that it is in


_inside = _Inside()


class _GivenUpError(BaseException):
    """Ends the work of a thread whose result is no longer needed."""


def available_cores() -> int:
    """Return the number of cores that this process may use.

    A program that starts several jobs on one machine (joblib, Ray, Slurm) sets OMP_NUM_THREADS to
    the number of cores of each job, as for other numerical libraries.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores or 1, int(limit)) if limit.isdigit() and int(limit) else cores or 1


def set_threads(n: int | None = None) -> int:
    """Use ``n`` threads from now on (None: one for each core) and return their number.

    BLAS is limited to one thread: its products are small here, and the threads that call it already
    use all cores.
    """
    global _n_threads
    if n is not None and n < 1:
        raise ConfigError(f"trainer.threads={n} is not a number of threads: use 1 or more, or null")
    _n_threads = n or available_cores()
    _keep_freed_memory()
    threadpool_limits(limits=1, user_api="blas")
    return _n_threads


def _keep_freed_memory() -> None:
    """Let the C library keep freed arrays for the next batch, where it has such a setting.

    For a small network, new pages from the system would take as long as the computation.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has these settings
        libc = ctypes.CDLL(None)
        for setting, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20)):
            libc.mallopt(setting, size)


def get_threads() -> int:
    """Return the number of threads in use."""
    return _n_threads or set_threads()


def free_threads() -> int:
    """Return how many threads the calling thread may use; a worker may use only itself.

    Kernels that are not compiled hold the GIL, so it is one there too.
    """
    return 1 if numba.config.DISABLE_JIT or _inside.worker else get_threads()


def for_each(function: Callable[[int], None], n: int, spins: int = _APART_SPINS) -> None:
    """Call ``function(i)`` for i in range(n), on several threads where there are several.

    ``spins`` is how long a thread spins without the GIL after it handed work to another.
    """
    if n == 1 and _n_threads:
        function(0)
        return
    indices = iter(range(n))  # shared: each thread takes the next index

    def drain() -> None:
        for i in indices:
            check_wanted()
            function(i)

    threads = min(free_threads(), n)
    if threads < 2 or _inside.errors is not None:
        drain()
        return
    try:
        if _busy.acquire(blocking=False):
            _run_jobs([drain] * threads, spins=spins)
        else:
            drain()
    finally:
        _release_workers()


def for_spans(function: Callable[[int, int], None], n: int, work: float) -> None:
    """Call ``function(begin, end)`` for spans that cover range(n), one for each thread.

    ``work`` is the total number of multiplications; a small amount stays on one thread. A span
    should be one call of a kernel, since threads compete for the GIL between calls. Only a span
    that would take long is split into several.
    """
    threads = max(1, min(free_threads(), n, int(work / _WORTH_A_SPAN)))
    spans = max(1, min(n, threads * ceil(work / threads / MOST_IN_A_CALL)))
    for_each(lambda i: function(n * i // spans, n * (i + 1) // spans), spans, _BEGIN_SPINS)


def check_wanted() -> None:
    """Raise if the result of this thread is no longer needed, or if a signal is pending.

    Code that makes several calls of kernels calls this before each.
    """
    signals.check()
    if _inside.errors:
        raise _GivenUpError


def run_team(
    member: Callable[[Any], None], shares: Sequence[Any], give_up: Callable[[], None]
) -> None:
    """Call ``member(share)`` for all shares at the same time: the members wait for each other.

    If one fails or is interrupted, ``give_up()`` ends the waiting of the others, and its error is
    raised.
    """
    try:
        _busy.acquire()
        _run_jobs([partial(member, share) for share in shares], give_up)
    finally:
        _release_workers()


def _release_workers() -> None:
    """Release the workers for other threads, if this thread holds them."""
    with contextlib.suppress(RuntimeError):  # raised once the lock is released completely
        while True:
            _busy.release()


def _run_jobs(
    jobs: Sequence[Callable[[], None]],
    give_up: Callable[[], None] = lambda: None,
    spins: int = _BEGIN_SPINS,
) -> None:
    """Call the first job in this thread and each other one on a worker, and wait for all.

    If one fails, or this thread is interrupted, the others are given up. The error is raised after
    all have ended.
    """
    while len(_workers) < len(jobs) - 1:
        _workers.append(_Worker())
    helpers = _workers[: len(jobs) - 1]
    errors: list[BaseException] = []

    def fail(error: BaseException) -> None:
        errors.append(error)
        give_up()

    def run(job: Callable[[], None]) -> None:
        before, _inside.errors = _inside.errors, errors
        try:
            job()
        except BaseException as error:
            fail(error)
        finally:
            _inside.errors = before

    try:
        for worker, job in zip(helpers, jobs[1:], strict=True):
            worker.post(partial(run, job), spins)
        run(jobs[0])
    except BaseException as error:  # a signal between two lines of this function
        fail(error)
    while True:
        try:
            for worker in helpers:
                worker.wait()
            break
        except KeyboardInterrupt as error:
            fail(error)
    if failure := next((e for e in errors if not isinstance(e, _GivenUpError)), None):
        try:
            raise failure
        finally:
            errors.clear()  # their tracebacks refer to this frame, and so to all its arrays
            del failure


def _nothing() -> None:
    pass


@final
class _Worker:
    """A thread that runs one job after another, and spins for a while before it sleeps.

    Threads read ``_counts`` without the GIL: the numbers of the jobs that were posted, begun and
    done, and whether the worker spins.
    """

    def __init__(self) -> None:
        self._job = _nothing
        self._number = 0
        self._counts = np.zeros((4, 16), np.int64)
        # A plain lock: an Event that is interrupted inside would keep its internal lock for ever.
        self._sleeping = threading.Lock()
        self._sleeping.acquire()
        # Not Thread.is_alive: where a signal interrupts it, Python 3.11 takes the thread for ended.
        self._has_ended = False
        threading.Thread(target=self._serve, name="nnjit", daemon=True).start()

    def post(self, job: Callable[[], None], spins: int) -> None:
        """Start a job, and then spin ``spins`` times without the GIL."""
        self._job = job
        self._number += 1
        if self._counts[SPINNING, 0] and _max_spins:
            hand_over(self._counts, self._number, spins)
        else:
            self._counts[POSTED, 0] = self._number
        self._wake()

    def wait(self) -> None:
        """Wait for the end of the job."""
        spins = max(_max_spins, 1)
        while not spin(self._counts, DONE, self._number, spins):
            spins = 1  # the job is long: leave the core to other threads
            self._counts[POSTED, 0] = self._number  # a signal may have interrupted `post`
            self._wake()
            time.sleep(_SLEEP_SECONDS)
            if self._has_ended:
                raise RuntimeError("a thread of nnjit has ended")

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake, and will see the new job
            self._sleeping.release()

    def _serve(self) -> None:
        _inside.worker = True
        try:
            for job in range(1, 1 << 62):
                if not spin_for_job(self._counts, job, _max_spins):
                    while self._counts[POSTED, 0] < job:
                        self._sleeping.acquire()
                self._counts[BEGUN, 0] = job
                work, self._job = self._job, _nothing  # a job may refer to large arrays
                work()
                del work
        finally:
            self._has_ended = True


@final
class _DelayedSignals(event.Listener):
    """Delays signals while Numba compiles or loads a kernel, a second at most.

    An exception there may leave Numba's lock locked for ever, and the workers, which load kernels
    too, would wait for it.
    """

    def __init__(self) -> None:
        self._delays: list[contextlib.AbstractContextManager[None]] = []

    def on_start(self, event: Any) -> None:
        """Delay signals: Numba takes its lock next."""
        if threading.current_thread() is threading.main_thread():
            delay = signals.held()
            delay.__enter__()
            self._delays.append(delay)

    def on_end(self, event: Any) -> None:
        """Raise a delayed interrupt: Numba has released its lock."""
        if self._delays and threading.current_thread() is threading.main_thread():
            self._delays.pop().__exit__(None, None, None)


event.register("numba:compiler_lock", _DelayedSignals())


def _forget_workers() -> None:
    # Threads do not exist in a forked child; waiting for them would hang.
    global _busy
    _workers.clear()
    _busy = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
