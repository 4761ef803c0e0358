"""Teams of threads that share the units of a layer, with a barrier after each product.

A wide layer is worth sharing even when the batch is a single tile: every member of a team computes
the rows of its own units, and all wait for each other after each product, for the next one reads
all rows. Only one member computes a row, so the bits do not depend on the size of the team.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import inlined, jit
from ._lanes import LANES
from ._wait import arrive, arrived, relax

_LINE = 16  # numbers of 8 bytes; each counter has cache lines of its own
_PATIENCE = 4096  # spins before the core is offered to other threads


class WorkShare(NamedTuple):
    """What one member of a team of ``size`` does: units ``begin`` to ``end``.

    ``arrivals`` counts for each member the barriers that it has reached. Its last row is above 0
    where the work was given up: then nobody waits any more, and no result counts.
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
    """Return the share of a thread that computes the whole layer; it waits for nobody."""
    return work_shares(units, 1)[0]


def rows_of_share(share: WorkShare, units: int, gates: int) -> list[slice]:
    """Return the rows of a member's own units among those of all gates.

    Sums over rows go by blocks of LANES, which must not depend on who takes them: a layer that
    may have a team is cut at its gates in any case.
    """
    if units < LANES:
        return [slice(0, gates * units)]
    return [slice(g * units + share.begin, g * units + share.end) for g in range(gates)]


def partition(size: int, share: WorkShare) -> slice:
    """Return a member's part of an axis of another length."""
    return slice(*_edges(size, share.rank, share.size, 1))


def _edges(size: int, i: int, n: int, step: int) -> tuple[int, int]:
    """Return part i of n, in blocks of ``step``; what is less than half a block joins the last.

    Fewer than 8 rows are projected in another way than more, which gives other bits.
    """
    blocks = max(1, (size + step // 2) // step)
    begin, end = blocks * i // n, blocks * (i + 1) // n
    return begin * step if begin < blocks else size, end * step if end < blocks else size


def give_up(share: WorkShare) -> None:
    """Have no member of a team wait for another from now on: what they do is thrown away."""
    share.arrivals[share.size, 0] = 1


@inlined
def barrier(share):
    """Wait until all members are here; what they wrote before can be read afterwards."""
    if share.size > 1:
        wait_for_members(share)


@jit
def wait_for_members(share):
    """Do what `barrier` does, for several members. Where the work was given up, return at once."""
    arrivals = share.arrivals
    here = arrivals[share.rank, 0] + 1
    arrive(arrivals, share.rank, here)
    for other in range(share.size):
        spins = 0
        while not arrived(arrivals, other, here):
            spins += 1
            if spins % _PATIENCE == 1 and arrived(arrivals, share.size, 1):
                return
            if spins % _PATIENCE == 0:
                relax()


def barrier_between_kernels(share: WorkShare) -> None:
    """Do what `barrier` does, called from Python."""
    if share.size > 1:
        wait_for_members(share)


@jit
def spin(counters, row, value, spins):
    """Tell whether ``counters[row, 0]`` reaches ``value`` within so many spins, without the GIL."""
    for _ in range(spins):  # noqa: SIM110 - a kernel
        if arrived(counters, row, value):
            return True
    return False


POSTED, BEGUN, DONE, SPINNING = range(4)  # the counters of a thread that works for another


@jit
def hand_over(counters, job, spins):
    """Post a job, spin until it has begun, and then a while longer.

    Meanwhile the GIL is free. A thread that finds it taken is put to sleep, and to wake it takes
    longer than small work.
    """
    arrive(counters, POSTED, job)
    if spin(counters, BEGUN, job, spins):
        spin(counters, BEGUN, job + 1, spins)  # which does not come


@jit
def spin_for_job(counters, job, spins):
    """Tell that the job before is done, then spin for this one; return whether it came."""
    arrive(counters, SPINNING, 1)
    arrive(counters, DONE, job - 1)
    came = spin(counters, POSTED, job, spins)
    arrive(counters, SPINNING, 0)
    return came
