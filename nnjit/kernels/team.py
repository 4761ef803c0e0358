"""Threads that walk through time together, each with its own units of a layer.

A wide layer is worth sharing even when the batch is a single tile: every member of a team computes
the rows of its own units, and all meet after each product, for the next one reads all rows. A row
is computed by one member alone, so the bits do not depend on the size of the team.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import inlined, jit
from ._lanes import LANES
from ._wait import arrive, arrived, relax

_LINE = 16  # numbers of 8 bytes; each counter has cache lines of its own
_PATIENCE = 4096  # looks at a counter before the core is offered to others


class Share(NamedTuple):
    """What one member of a team of ``size`` does: units ``begin`` to ``end``.

    ``meetings`` counts for each member the meetings that it came to. Its last row is above 0 where
    the work was given up: then nobody waits for anybody any more, and no result counts.
    """

    begin: int
    end: int
    rank: int
    size: int
    meetings: NDArray[np.int64]


def shares(units: int, n: int) -> list[Share]:
    """Return the shares of a team of n; none is empty as long as there are LANES units for each."""
    meetings = np.zeros((n + 1, _LINE), np.int64)
    return [Share(*_edges(units, i, n, LANES), i, n, meetings) for i in range(n)]


@lru_cache(maxsize=256)
def alone(units: int) -> Share:
    """Return the share of who does all; it meets nobody."""
    return shares(units, 1)[0]


def own_rows(share: Share, units: int, gates: int) -> list[slice]:
    """Return the rows of a member's own units among those of all gates.

    Sums over rows go by blocks of LANES, which must not depend on who takes them: a layer that
    may have a team is cut at its gates in any case.
    """
    if units < LANES:
        return [slice(0, gates * units)]
    return [slice(g * units + share.begin, g * units + share.end) for g in range(gates)]


def part(size: int, share: Share) -> slice:
    """Return a member's part of an axis of another length."""
    return slice(*_edges(size, share.rank, share.size, 1))


def _edges(size: int, i: int, n: int, step: int) -> tuple[int, int]:
    """Return part i of n, in blocks of ``step``; what is less than half a block joins the last.

    Fewer than 8 rows are projected in another way than more, which gives other bits.
    """
    blocks = max(1, (size + step // 2) // step)
    begin, end = blocks * i // n, blocks * (i + 1) // n
    return begin * step if begin < blocks else size, end * step if end < blocks else size


def give_up(share: Share) -> None:
    """Have no member of a team wait for another from now on: what they do is thrown away."""
    share.meetings[share.size, 0] = 1


@inlined
def meet(share):
    """Wait until all members are here; what they wrote before can be read afterwards."""
    if share.size > 1:
        wait(share)


@jit
def wait(share):
    """Do what `meet` does, for a team of several; where the work was given up, wait for nobody."""
    meetings = share.meetings
    here = meetings[share.rank, 0] + 1
    arrive(meetings, share.rank, here)
    for other in range(share.size):
        looks = 0
        while not arrived(meetings, other, here):
            looks += 1
            if looks % _PATIENCE == 1 and arrived(meetings, share.size, 1):
                return
            if looks % _PATIENCE == 0:
                relax()


def join(share: Share) -> None:
    """Do what `meet` does, between two kernels."""
    if share.size > 1:
        wait(share)


@jit
def watch(counters, row, value, looks):
    """Tell whether ``counters[row, 0]`` reaches ``value`` while it is looked at so many times."""
    for _ in range(looks):  # noqa: SIM110 - a kernel
        if arrived(counters, row, value):
            return True
    return False


POSTED, BEGUN, DONE, LOOKING = range(4)  # the counters of a thread that works for another


@jit
def hand_over(counters, job, looks):
    """Post a job, look out for its beginning, and for a while do no more.

    Meanwhile the GIL is free. A thread that found it taken would be put to sleep, and to wake it
    takes longer than small work.
    """
    arrive(counters, POSTED, job)
    if watch(counters, BEGUN, job, looks):
        watch(counters, BEGUN, job + 1, looks)  # which does not come


@jit
def rest(counters, job, looks):
    """Tell that the job before is done, then look out for this one; return whether it came."""
    arrive(counters, LOOKING, 1)
    arrive(counters, DONE, job - 1)
    found = watch(counters, POSTED, job, looks)
    arrive(counters, LOOKING, 0)
    return found
