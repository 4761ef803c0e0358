"""The arrays of a cell's kernels: gates, states, scratch arrays and masks."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

from ..cells.source import Source
from ..errors import ConfigError
from ..kernels._lanes import LANES
from ..runtime.memory import empty
from .base import Array

Arrays = dict[str, Array]
Lengths = Array | None  # of clips, (tiles, LANES), integers; None where all have all steps


@final
@dataclass(frozen=True)
class KernelArrays:
    """Allocates, slices and orders the arrays of a layer with so many ``units`` and ``gates``."""

    source: Source
    gates: int
    units: int
    dtype: np.dtype[Any]

    def allocate(self, tiles: int, T: int, masks: Arrays) -> Arrays:
        """Return arrays for T steps of ``tiles`` tiles; the first states are 0."""
        arrays = {"a": empty((tiles, T, self.gates * self.units, LANES), self.dtype)}
        for name in self.source.states:
            arrays[name] = empty((tiles, T + 1, self.units, LANES), self.dtype)
            arrays[name][:, 0] = 0
        for name in self.source.scratch:
            arrays[name] = empty((tiles, T, self.units, LANES), self.dtype)
        arrays.update(masks)
        return arrays

    def states(self, *shape: int) -> Arrays:
        """Return uninitialised states, (*shape, H, LANES)."""
        shape = (*shape, self.units, LANES)
        return {name: empty(shape, self.dtype) for name in self.source.states}

    def masks(self, tiles: int, rate: float, rng: np.random.Generator | None) -> Arrays:
        """Return the mask of recurrent dropout if the kernels take one; a rate of 0 drops nothing.

        Values are 0 with probability ``rate``, else ``1 / (1 - rate)``: one for each clip and unit.

        Raises
        ------
        ConfigError
            If a mask must be drawn and ``rng`` is None.
        """
        if not self.source.masks:
            return {}
        shape = (tiles, 1, self.units, LANES)
        if rate == 0:
            return {name: np.ones(shape, self.dtype) for name in self.source.masks}
        if rng is None:
            raise ConfigError(
                "recurrent_dropout needs rng while training: "
                "model.forward(x, training=True, rng=...)"
            )
        mask = (rng.random(shape, np.float32) >= rate).astype(self.dtype)
        return {name: mask / self.dtype.type(1 - rate) for name in self.source.masks}

    def left(self, lengths: Lengths, begin: int, end: int) -> list[Array]:
        """Return the steps of each clip from begin to end; empty for clips of one length."""
        if lengths is None:
            return []
        steps = np.minimum(np.maximum(lengths - begin, 0), end - begin)  # quicker than np.clip
        return [steps[:, None, None].astype(self.dtype)]

    def cut(self, arrays: Arrays, begin: int, end: int) -> Arrays:
        """Return views of steps begin to end; states have one step more, masks have no steps."""
        if begin == 0 and end == arrays["a"].shape[1]:
            return arrays
        states, masks = self.source.states, self.source.masks
        return {
            k: v if k in masks else v[:, begin : end + 1 if k in states else end]
            for k, v in arrays.items()
        }

    def in_order(self, arrays: Arrays) -> list[Array]:
        """Return the arguments of the kernels that follow ``a`` and the weights."""
        return [arrays[name] for name in self._order]

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return (*self.source.states, *self.source.scratch, *self.source.masks)
