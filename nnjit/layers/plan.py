"""The schedule of a recurrent layer: groups and teams, segments of time, calls of kernels.

Every plan gives the same bits.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, final

from ..kernels._lanes import LANES
from ..kernels.product import GRAIN

_SEGMENT_BYTES = 1 << 21  # of the arrays of a segment of time, so that they stay in the caches
_KEEP_BYTES = 1 << 29  # above this, checkpoint="auto" recomputes the gates instead of saving them
# A rough estimate of a step of a tile: seconds for each unit, and flops per second of its products.
_STEP_SECONDS, _FLOPS = 2e-8, 1e11
_WORTH_A_THREAD = 1e-4  # seconds of work for which waking another thread pays
_WORTH_A_BARRIER = 2e-6  # seconds of a step for which a barrier after it pays
# Seconds of one call of a kernel, by this estimate; signals are handled between two calls. On slow
# cores, and with denormal numbers, a call may take ten times as long.
_CALL_SECONDS = 0.05


class Size(NamedTuple):
    """The size of a layer, on which its plans depend.

    ``matrices`` is the number of recurrent matrices; ``n_features`` is 0 for codes; ``step_bytes``
    is the memory of a step of a tile.
    """

    hidden_size: int
    gates: int
    matrices: int
    n_features: int
    step_bytes: int

    def seconds(self, n_features: int) -> float:
        """Return an estimate of the time of a step of a tile with so many inputs to multiply."""
        H = self.hidden_size
        products = 2 * H * (self.matrices * H + self.gates * n_features) * LANES
        return _STEP_SECONDS * H + products / _FLOPS


@final
@dataclass(frozen=True)
class ExecutionPlan:
    """Groups of tiles, each for a thread, or one for a ``team`` of threads; segments of time.

    With ``keep`` all gates are saved for the backward pass; else it computes them again. One call
    of a kernel takes ``steps`` steps at most; one that sums over time takes ``sum_steps`` steps of
    ``sum_tiles`` tiles.
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
    """Return a plan for T steps of ``tiles`` tiles; see `Bptt` for checkpoint and truncate.

    One thread computes the tiles of a group in turn at each step, which hides latencies. Large work
    is split into several groups, one for each thread, or a team of threads shares one group.
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
        segment = checkpoint
    else:
        segment = _SEGMENT_BYTES // (size.step_bytes * groups[0].stop)
        if segment < T <= 2 * segment:
            segment = T  # returning to Python in between costs more than the caches save
        segment = segment if keep else max(segment, round(T**0.5))
    most = max(group.stop - group.start for group in groups)
    steps = max(1, int(_CALL_SECONDS / size.seconds(size.n_features) / most))
    # With one unit the compiler fuses operations of neighbouring steps, but not across a GRAIN.
    by_grains, sum_steps = steps >= GRAIN or H == 1, max(1, steps // GRAIN) * GRAIN
    calls = (sum_steps if by_grains else steps, sum_steps, most if by_grains else 1)
    return ExecutionPlan(groups, team, _segments(T, segment, truncate or T), keep, *calls)


def spans(n: int, most: int) -> list[tuple[int, int]]:
    """Cut range(n) into spans of at most ``most`` each."""
    if 0 < n <= most:
        return [(0, n)]
    return [(begin, min(begin + most, n)) for begin in range(0, n, most)]


def _segments(T: int, steps: int, reach: int) -> tuple[tuple[int, int], ...]:
    """Cut time where the gradient is cut, and between at multiples of GRAIN (see `product`)."""
    steps = max(1, round(steps / GRAIN)) * GRAIN
    return tuple(
        (begin, min(begin + steps, start + reach, T))
        for start in range(0, T, reach)
        for begin in range(start, min(start + reach, T), steps)
    )
