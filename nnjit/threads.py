"""Threads: one number for the whole process, and a loop over independent pieces of work.

Results never depend on the number of threads: the pieces are cut by the shape of the data alone,
each writes its own output, and what is summed is summed in the order of the pieces.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits

from .errors import ConfigError

_n_threads = 0
_pool: ThreadPoolExecutor | None = None
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
    global _n_threads, _pool
    if n is not None and n < 1:
        raise ConfigError(f"trainer.threads={n} is not a number of threads: use 1 or more, or null")
    wanted = n or available_cores()
    if _pool is not None and wanted != _n_threads:
        _pool.shutdown(wait=False)
        _pool = None
    _n_threads = wanted
    threadpool_limits(limits=1, user_api="blas")
    return _n_threads


def get_threads() -> int:
    """Return the number of threads in use."""
    return _n_threads or set_threads()


def for_each(function: Callable[[int], None], n: int) -> None:
    """Call ``function(i)`` for i in range(n), on several threads where there are several."""
    helpers = 0 if getattr(_inside, "pool", False) else min(get_threads(), n) - 1
    indices = iter(range(n))  # all threads draw from it

    def drain() -> None:
        for i in indices:
            function(i)

    waiting = [_workers().submit(drain) for _ in range(helpers)]
    drain()
    for future in waiting:
        future.result()


def _workers() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(get_threads(), "nnjit", initializer=_mark)
    return _pool


def _mark() -> None:
    # A worker that waited for other workers could wait for ever: inside one, all is done in place.
    _inside.pool = True


def _forget_pool() -> None:
    # The threads of a pool do not survive a fork; a child that waited for them would hang.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
