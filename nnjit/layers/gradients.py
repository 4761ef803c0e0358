"""Gradients of weight matrices that are kept as their factors."""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..kernels._lanes import LANES
from ..kernels.dense import dense_gradient, scatter_rows
from ..runtime.threads import for_spans

Array = NDArray[Any]


class FactoredGradient(ABC):
    """The gradient of a weight matrix as factors; SGD adds it without forming the matrix."""

    @abstractmethod
    def add_to(self, W: Array, scale: float) -> None:
        """Add ``scale`` times the gradient to ``W``, in place."""

    @abstractmethod
    def dense(self) -> Array:
        """Return the whole matrix."""


@final
class RowGradient(FactoredGradient):
    """The gradient of a weight matrix that is looked up by row; it is 0 in rows that were not read.

    Row ``t * levels + codes[t, n]`` receives ``dz[n]``. ``codes`` is (tiles, T, LANES), ``dz`` is
    (tiles, LANES, units).
    """

    def __init__(self, codes: Array, dz: Array, levels: int) -> None:
        self.codes, self.dz, self.levels = codes, dz, levels

    def add_to(self, W: Array, scale: float) -> None:
        """Add ``scale`` times the gradient to ``W``, (T levels, units), in place."""
        factor = W.dtype.type(scale)

        def run(begin: int, end: int) -> None:
            for codes, dz in zip(self.codes, self.dz, strict=True):
                scatter_rows(W, codes, dz, self.levels, factor, begin, end)

        for_spans(run, self.codes.shape[1], 4.0 * self.codes.size * W.shape[1])

    def dense(self) -> Array:
        """Return the whole matrix, (T levels, units)."""
        T, units = self.codes.shape[1], self.dz.shape[-1]
        out = np.zeros((T * self.levels, units), self.dz.dtype)
        self.add_to(out, 1.0)
        return out


@final
class OuterGradient(FactoredGradient):
    """The gradient of a weight matrix that multiplies x: the sum of ``x[n] dz[n].T`` over clips.

    ``x`` is (tiles, D, LANES), ``dz`` is (tiles, units, LANES).
    """

    def __init__(self, x: Array, dz: Array) -> None:
        self.x, self.dz = x, dz

    def add_to(self, W: Array, scale: float) -> None:
        """Add ``scale`` times the gradient to ``W``, (D, units), in place."""
        dz = self.dz * W.dtype.type(scale)
        if W.shape[1] % LANES:
            W += np.matmul(self.x, dz.transpose(0, 2, 1)).sum(axis=0)
            return
        units = dz.transpose(1, 0, 2).reshape(-1, LANES, len(dz) * LANES)
        as_lanes, x = np.ascontiguousarray(units.transpose(0, 2, 1)), self.x[:, None]
        work = self.x.size * W.shape[1]
        for_spans(lambda a, b: dense_gradient(W[None], as_lanes, x, a, b), len(W), work)

    def dense(self) -> Array:
        """Return the whole matrix, (D, units)."""
        out = np.zeros((self.x.shape[1], self.dz.shape[1]), self.dz.dtype)
        self.add_to(out, 1.0)
        return out


def as_array(gradient: Array | FactoredGradient) -> Array:
    """Return a gradient of any kind as a whole array."""
    return gradient if isinstance(gradient, np.ndarray) else gradient.dense()
