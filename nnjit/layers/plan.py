"""How a recurrent layer goes through its work: groups and teams of tiles, pieces of time.

Nothing here has a say in the bits of a result.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, final

from ..kernels._lanes import LANES
from ..kernels.product import GRAIN

_PIECE_BYTES = 1 << 21  # of the arrays of a piece of time: they stay in the caches
_KEEP_BYTES = 1 << 29  # above this, checkpoint="auto" recomputes the gates instead of keeping them
# What a step of a tile takes, roughly: for each unit, and for its products.
_STEP_SECONDS, _FLOPS = 2e-8, 1e11
_WORTH_A_THREAD = 1e-4  # seconds of work that are worth waking another thread
_WORTH_A_MEETING = 2e-6  # seconds of a step that are worth meeting after it


class Size(NamedTuple):
    """What a layer brings to its plans; ``step_bytes`` is what a step of a tile takes in memory."""

    hidden_size: int
    gates: int
    step_bytes: int


@final
@dataclass(frozen=True)
class Plan:
    """Groups of tiles, each for a thread, or one for a ``team`` of threads; pieces of time.

    ``keep`` tells whether all gates are kept for the way back; else it computes them again.
    """

    groups: tuple[slice, ...]
    team: int
    pieces: tuple[tuple[int, int], ...]
    keep: bool

    @property
    def longest(self) -> int:
        """The number of steps of the longest piece."""
        return max(end - begin for begin, end in self.pieces)


@lru_cache(maxsize=1024)
def plan(
    size: Size, tiles: int, T: int, checkpoint: str | int, truncate: int | None, threads: int
) -> Plan:
    """Return what is best for T steps of so many tiles; see `Bptt` for checkpoint and truncate.

    Tiles of one group walk through time together and fill each other's waits. Several groups, a
    thread each, or a team of several threads on one group are worth their cost where there is
    enough to do.
    """
    H = size.hidden_size
    step = tiles * (_STEP_SECONDS * H + 2 * size.gates * H * H * LANES / _FLOPS)
    n = max(1, min(threads, tiles, int(step * T / _WORTH_A_THREAD)))
    team = min(threads, -(-H // LANES), int(step / _WORTH_A_MEETING))
    if team > max(1, min(threads, tiles)):
        n = 1
    else:
        team = 1
    edges = [tiles * i // n for i in range(n + 1)]
    groups = tuple(slice(a, b) for a, b in pairwise(edges))
    keep = checkpoint == "off"
    if checkpoint == "auto":
        keep = tiles * T * size.step_bytes <= _KEEP_BYTES
    if isinstance(checkpoint, int):
        wanted = checkpoint
    else:
        wanted = _PIECE_BYTES // (size.step_bytes * groups[0].stop)
        if wanted < T <= 2 * wanted:
            wanted = T  # to come back to Python in between costs more than the caches save
        wanted = wanted if keep else max(wanted, round(T**0.5))
    return Plan(groups, team, _pieces(T, wanted, truncate or T), keep)


def _pieces(T: int, wanted: int, reach: int) -> tuple[tuple[int, int], ...]:
    """Cut time where the gradient is cut, and between at multiples of GRAIN (see `product`)."""
    steps = max(1, round(wanted / GRAIN)) * GRAIN
    return tuple(
        (begin, min(begin + steps, start + reach, T))
        for start in range(0, T, reach)
        for begin in range(start, min(start + reach, T), steps)
    )
