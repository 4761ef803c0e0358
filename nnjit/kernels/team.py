"""Teams of threads that share the units of a layer, with a barrier after each product.

Sharing pays for a wide layer even when the batch is a single tile. Every member of a team computes
the rows of some units. The next product reads all rows, so all members meet at a barrier after each
product. Only one member computes a row, so the bits do not depend on the size of the team.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import inlined, jit
from ._lanes import LANES
from ._wait import arrive, arrived, relax

_LINE = 16  # numbers of 8 bytes: no two counters are in one cache line
_PATIENCE = 4096  # spins before the core is yielded to other threads


class WorkShare(NamedTuple):
    """The work of one member of a team of ``size``: units ``begin`` to ``end``.

    ``arrivals`` counts for each member the barriers that it has reached. Its last row is above 0 if
    the work was given up: then no member waits any more, and results are discarded.
    """

    begin: int
    end: int
    rank: int
    size: int
    arrivals: NDArray[np.int64]


def work_shares(units: int, n: int) -> list[WorkShare]:
    """Return the shares of a team of n; none is empty as long as there are LANES units for each."""
    arrivals = np.zeros((n + 1, _LINE), np.int64)
    return [WorkShare(*_edges(units, i, n, LANES), i, n, arrivals) for i in range(n)]


@lru_cache(maxsize=256)
def whole_layer(units: int) -> WorkShare:
    """Return the share of a thread that computes the whole layer, without barriers."""
    return work_shares(units, 1)[0]


def rows_of_share(share: WorkShare, units: int, gates: int) -> list[slice]:
    """Return the rows of a member's units among those of all gates.

    Sums over rows are taken in blocks of LANES, which must not depend on the size of the team: a
    layer that may have a team is always cut at its gates.
    """
    if units < LANES:
        return [slice(0, gates * units)]
    return [slice(g * units + share.begin, g * units + share.end) for g in range(gates)]


def partition(size: int, share: WorkShare) -> slice:
    """Return a member's range of an axis with ``size`` entries."""
    return slice(*_edges(size, share.rank, share.size, 1))


def _edges(size: int, i: int, n: int, step: int) -> tuple[int, int]:
    """Return part i of n, in blocks of ``step``; less than half a block is added to the last part.

    Without that, a part could have fewer than 8 rows, which are projected by other code, with other
    bits.
    """
    blocks = max(1, (size + step // 2) // step)
    begin, end = blocks * i // n, blocks * (i + 1) // n
    return begin * step if begin < blocks else size, end * step if end < blocks else size


def give_up(share: WorkShare) -> None:
    """End all waiting in a team: its results will be discarded."""
    share.arrivals[share.size, 0] = 1


@inlined
def barrier(share):
    """Wait until all members arrive; afterwards each can read what the others wrote before."""
    if share.size > 1:
        wait_for_members(share)


@jit
def wait_for_members(share):
    """Implement `barrier` for several members. If the work was given up, return at once."""
    arrivals = share.arrivals
    number = arrivals[share.rank, 0] + 1  # of this barrier
    arrive(arrivals, share.rank, number)
    for other in range(share.size):
        spins = 0
        while not arrived(arrivals, other, number):
            spins += 1
            if spins % _PATIENCE == 1 and arrived(arrivals, share.size, 1):
                return
            if spins % _PATIENCE == 0:
                relax()


def barrier_between_kernels(share: WorkShare) -> None:
    """Call `barrier` from Python."""
    if share.size > 1:
        wait_for_members(share)


@jit
def spin(counters, row, value, spins):
    """Tell whether ``counters[row, 0]`` reaches ``value`` in so many reads, without the GIL."""
    for _ in range(spins):  # noqa: SIM110 - a kernel
        if arrived(counters, row, value):
            return True
    return False


POSTED, BEGUN, DONE, SPINNING = range(4)  # the counters of a worker thread


@jit
def hand_over(counters, job, spins):
    """Post a job, spin until it has begun, and then a while longer.

    The GIL is free meanwhile, so that the worker need not sleep to get it: waking a thread takes
    longer than a small job.
    """
    arrive(counters, POSTED, job)
    if spin(counters, BEGUN, job, spins):
        spin(counters, BEGUN, job + 1, spins)  # never reached: this only spins


@jit
def spin_for_job(counters, job, spins):
    """Report that the previous job is done, then spin for this one; return whether it came."""
    arrive(counters, SPINNING, 1)
    arrive(counters, DONE, job - 1)
    came = spin(counters, POSTED, job, spins)
    arrive(counters, SPINNING, 0)
    return came
