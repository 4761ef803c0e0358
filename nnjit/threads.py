"""Threads: one number for the whole process, and a loop over independent pieces of work.

Results never depend on the number of threads: the pieces are cut by the shape of the data alone,
each writes its own output, and what is summed is summed in the order of the pieces.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, final

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from .errors import ConfigError
from .kernels.team import BEGUN, DONE, LOOKING, POSTED, hand_over, rest, watch

# Some milliseconds: waking a thread that sleeps takes as long as a batch of small work.
_looks = 5_000_000
# Some microseconds: until a worker has begun its only kernel, and until it has done with what it
# does in Python between two kernels, or both would come back at the same time again and again.
_BEGIN_LOOKS, _APART_LOOKS = 3_000, 20_000
_WORTH_A_SPAN = 1e6  # multiplications that are worth handing to another thread
_NAP = 2e-4  # seconds between looks at long work
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_n_threads = 0
_workers: list["_Worker"] = []
_busy = threading.Lock()  # held while the workers are at work
_inside = threading.local()


def available_cores() -> int:
    """Return the number of cores this process may run on, or its share of them.

    Who starts several jobs on one machine (joblib, Ray, Slurm) tells each its share in
    OMP_NUM_THREADS, as it does for other numerical libraries.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores or 1, int(share)) if share.isdigit() and int(share) else cores or 1


def set_threads(n: int | None = None) -> int:
    """Use ``n`` threads from now on (None: one for each core) and return their number.

    BLAS is held at one thread: its products here are small, and the tiles above it share the cores.
    """
    global _n_threads
    if n is not None and n < 1:
        raise ConfigError(f"trainer.threads={n} is not a number of threads: use 1 or more, or null")
    _n_threads = n or available_cores()
    _keep_freed_memory()
    threadpool_limits(limits=1, user_api="blas")
    return _n_threads


def _keep_freed_memory() -> None:
    """Have the C library keep freed arrays for the next batch, as far as it can be told to.

    Fresh pages from the system would take as long as the work of a small network.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has these settings
        libc = ctypes.CDLL(None)
        for setting, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20)):
            libc.mallopt(setting, size)


def get_threads() -> int:
    """Return the number of threads in use."""
    return _n_threads or set_threads()


def free_threads() -> int:
    """Return how many threads a piece of work may use here: one inside the work of another.

    Kernels that are not compiled keep the GIL: there it is one too.
    """
    return 1 if numba.config.DISABLE_JIT or getattr(_inside, "worker", False) else get_threads()


def for_each(function: Callable[[int], None], n: int, looks: int = _APART_LOOKS) -> None:
    """Call ``function(i)`` for i in range(n), on several threads where there are several.

    ``looks`` is how long a thread that handed work to another stays out of its way.
    """
    if n == 1 and _n_threads:
        function(0)
        return
    indices = iter(range(n))  # all threads draw from it

    def drain() -> None:
        for i in indices:
            function(i)

    threads = min(free_threads(), n)
    if threads < 2 or not _busy.acquire(blocking=False):
        drain()
        return
    try:
        _at_once([drain] * threads, looks=looks)
    finally:
        _busy.release()


def for_spans(function: Callable[[int, int], None], n: int, work: float) -> None:
    """Call ``function(begin, end)`` for spans that cover range(n), one for each thread.

    ``work`` is the number of multiplications in all: little is not shared. A span is best one call
    of a kernel: a thread that comes back to Python between two may find the others there.
    """
    threads = max(1, min(free_threads(), n, int(work / _WORTH_A_SPAN)))
    for_each(lambda i: function(n * i // threads, n * (i + 1) // threads), threads, _BEGIN_LOOKS)


def together(
    member: Callable[[Any], None], shares: Sequence[Any], leave: Callable[[Any], None]
) -> None:
    """Call ``member(share)`` for all shares at the same time, as they wait for each other.

    Where one fails, ``leave(share)`` lets the others go on without it; its error is raised here.
    """

    def run(share: Any) -> None:
        try:
            member(share)
        except BaseException:
            leave(share)
            raise

    def abandon() -> None:
        for share in shares:
            leave(share)

    with _busy:
        _at_once([partial(run, share) for share in shares], abandon)


def _at_once(
    jobs: Sequence[Callable[[], None]],
    abandon: Callable[[], Any] = lambda: None,
    looks: int = _BEGIN_LOOKS,
) -> None:
    """Call the first job here and each other one on a worker, and wait for all.

    Signals are heard in this thread alone: before it passes one on, ``abandon`` is called, and the
    workers have come to an end.
    """
    while len(_workers) < len(jobs) - 1:
        _workers.append(_Worker())
    helpers = _workers[: len(jobs) - 1]
    errors: list[BaseException | None] = []
    try:
        for worker, job in zip(helpers, jobs[1:], strict=True):
            worker.post(job, looks)
        jobs[0]()
    except BaseException as error:
        abandon()
        errors.append(error)
    while True:
        try:
            errors += [worker.wait() for worker in helpers]
            break
        except KeyboardInterrupt as interrupt:
            abandon()
            errors.append(interrupt)
    for failure in errors:
        if failure is not None:
            raise failure


def _nothing() -> None:
    pass


@final
class _Worker:
    """A thread that does one job after the other, and looks out for the next one for a while.

    Threads look at ``_counts`` without the GIL: the numbers of jobs posted, begun and done, and
    whether the worker is looking.
    """

    def __init__(self) -> None:
        self._job = _nothing
        self._error: BaseException | None = None
        self._number = 0
        self._counts = np.zeros((4, 16), np.int64)
        self._posted = threading.Event()
        threading.Thread(target=self._serve, name="nnjit", daemon=True).start()

    def post(self, job: Callable[[], None], looks: int) -> None:
        """Start a job, and stay out of its way for so many looks."""
        self._job = job
        self._number += 1
        if self._counts[LOOKING, 0] and _looks:
            hand_over(self._counts, self._number, looks)
        else:
            self._counts[POSTED, 0] = self._number
        self._posted.set()

    def wait(self) -> BaseException | None:
        """Wait for the end of the job; return the error that it ended with."""
        looks = max(_looks, 1)
        while not watch(self._counts, DONE, self._number, looks):
            looks = 1  # it is long work: leave the core to others
            time.sleep(_NAP)
        return self._error

    def _serve(self) -> None:
        _inside.worker = True
        for job in range(1, 1 << 62):
            if not rest(self._counts, job, _looks):
                while self._counts[POSTED, 0] < job:
                    self._posted.wait()
                    self._posted.clear()
            self._counts[BEGUN, 0] = job
            work, self._job = self._job, _nothing  # what it holds may be large
            try:
                self._error = None
                work()
            except BaseException as error:
                self._error = error
            del work


def _forget_workers() -> None:
    # Threads do not survive a fork; a child that waited for them would hang.
    global _busy
    _workers.clear()
    _busy = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
