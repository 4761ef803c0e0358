"""The schedule of a recurrent layer: groups and teams, segments of time, calls of kernels.

Results are the same to the bit for every plan.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, final

from ..kernels._lanes import LANES
from ..kernels.product import GRAIN

_SEGMENT_BYTES = 1 << 21  # of the arrays of a segment of time: they stay in the caches
_KEEP_BYTES = 1 << 29  # above this, checkpoint="auto" recomputes the gates instead of keeping them
# What a step of a tile takes, roughly: for each unit, and for its products.
_STEP_SECONDS, _FLOPS = 2e-8, 1e11
_WORTH_A_THREAD = 1e-4  # seconds of work that are worth waking another thread
_WORTH_A_BARRIER = 2e-6  # seconds of a step that are worth a barrier after it
# Seconds of one call of a kernel, at these rates; signals are heard between two calls. Slow cores
# and numbers close to 0 may take ten times as long.
_CALL_SECONDS = 0.05


class Size(NamedTuple):
    """What a layer brings to its plans.

    ``matrices`` are the recurrent ones; ``n_features`` are those of signals, 0 for codes;
    ``step_bytes`` is what a step of a tile takes in memory.
    """

    hidden_size: int
    gates: int
    matrices: int
    n_features: int
    step_bytes: int

    def seconds(self, n_features: int) -> float:
        """Return what a step of a tile takes, roughly, with so many inputs to be multiplied."""
        H = self.hidden_size
        products = 2 * H * (self.matrices * H + self.gates * n_features) * LANES
        return _STEP_SECONDS * H + products / _FLOPS


@final
@dataclass(frozen=True)
class ExecutionPlan:
    """Groups of tiles, each for a thread, or one for a ``team`` of threads; segments of time.

    ``keep`` tells whether all gates are kept for the way back; else it computes them again. One
    call of a kernel takes ``steps`` at most, and where it sums over time ``sum_steps`` of so many
    tiles.
    """

    groups: tuple[slice, ...]
    team: int
    segments: tuple[tuple[int, int], ...]
    keep: bool
    steps: int
    sum_steps: int
    sum_tiles: int

    @property
    def longest(self) -> int:
        """The number of steps of the longest segment."""
        return max(end - begin for begin, end in self.segments)


@lru_cache(maxsize=1024)
def execution_plan(
    size: Size, tiles: int, T: int, checkpoint: str | int, truncate: int | None, threads: int
) -> ExecutionPlan:
    """Return what is best for T steps of so many tiles; see `Bptt` for checkpoint and truncate.

    One thread computes the tiles of a group in turn at each step, which hides latencies. Several
    groups, a thread each, or a team of several threads on one group are worth their cost where
    there is enough to do.
    """
    H = size.hidden_size
    step = tiles * size.seconds(0)
    n = max(1, min(threads, tiles, int(step * T / _WORTH_A_THREAD)))
    team = min(threads, max(1, (H + LANES // 2) // LANES), int(step / _WORTH_A_BARRIER))
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
        wanted = _SEGMENT_BYTES // (size.step_bytes * groups[0].stop)
        if wanted < T <= 2 * wanted:
            wanted = T  # to come back to Python in between costs more than the caches save
        wanted = wanted if keep else max(wanted, round(T**0.5))
    most = max(group.stop - group.start for group in groups)
    steps = max(1, int(_CALL_SECONDS / size.seconds(size.n_features) / most))
    # With one unit the compiler joins operations of neighbouring steps, but not across a GRAIN.
    whole, sum_steps = steps >= GRAIN or H == 1, max(1, steps // GRAIN) * GRAIN
    calls = (sum_steps if whole else steps, sum_steps, most if whole else 1)
    return ExecutionPlan(groups, team, _segments(T, wanted, truncate or T), keep, *calls)


def spans(n: int, most: int) -> list[tuple[int, int]]:
    """Cut range(n) into spans of so many at most."""
    if 0 < n <= most:
        return [(0, n)]
    return [(begin, min(begin + most, n)) for begin in range(0, n, most)]


def _segments(T: int, wanted: int, reach: int) -> tuple[tuple[int, int], ...]:
    """Cut time where the gradient is cut, and between at multiples of GRAIN (see `product`)."""
    steps = max(1, round(wanted / GRAIN)) * GRAIN
    return tuple(
        (begin, min(begin + steps, start + reach, T))
        for start in range(0, T, reach)
        for begin in range(start, min(start + reach, T), steps)
    )
