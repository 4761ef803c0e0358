"""Pooling of windows of steps."""

from abc import ABC
from collections.abc import Callable
from typing import Any, final

import numpy as np

from ..kernels.pooling import (
    average_pooling,
    average_pooling_backward,
    max_pooling,
    max_pooling_backward,
)
from ..options import check_counts
from ..runtime.memory import empty
from ..runtime.threads import for_spans
from .arrays import Lengths
from .base import Array, Gradients, Layer
from .spec import Spec
from .steps import signal, steps_left
from .windows import Windows


class Pooling1D(Layer, ABC):
    """(N, T, D) to (N, T', D): one value for each window of steps, of each feature by itself.

    Parameters
    ----------
    pool_size
        Steps of a window.
    strides
        Steps from one window to the next; None: ``pool_size``.
    padding
        "valid": windows inside the signal only; "same": also those that reach beyond its ends,
        where only the steps of the signal count.

    Raises
    ------
    ConfigError
        Where a number is below 1, or there is no such padding.
    """

    takes = ("lengths",)
    needs_all_steps = True

    def __init__(
        self, pool_size: int = 2, strides: int | None = None, padding: str = "valid"
    ) -> None:
        kind = type(self).__name__
        check_counts(kind, pool_size=pool_size, strides=strides)
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding
        paddings = ("valid", "same")
        self._windows = Windows(kind, pool_size, strides or pool_size, padding, paddings=paddings)

    def connect(self, spec: Spec) -> Spec:
        """Take sequences only; see `Layer.connect`."""
        found = signal(self.name, spec)
        return self._windows.outputs(found, found.n_features, self.name)

    def lengths_after(self, lengths: Array) -> Array:
        """Return the windows of each clip; see `Layer.lengths_after`."""
        found: Array = self._windows.count(lengths)
        return found

    def _shape(self, x: Array, lengths: Lengths) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of the outputs, and what kernels take of the windows."""
        self._windows.check_lengths(lengths, self.name)
        tiles, T, D, lanes = x.shape
        windows = self._windows
        shape = tiles, int(windows.count(T)), D, lanes
        return shape, (windows.size, windows.stride, windows.before(T))

    @staticmethod
    def _of_windows(kernel: Callable[..., None], dy: Array, cache: Any) -> Array:
        """Return the gradient of the steps, which a kernel adds up from that of the windows."""
        state, windows, shape = cache
        dx, n = np.zeros(shape, dy.dtype), shape[0] * shape[2]
        args = dx, dy, state, *windows
        for_spans(lambda a, b: kernel(*args, a, b), n, dx.size)
        return dx


@final
class AveragePooling1D(Pooling1D):
    """The mean of each window; see `Pooling1D`."""

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, T', D, LANES), T' the number of windows."""
        (shape, windows), left = self._shape(x, lengths), steps_left(lengths, x)
        y, n = empty(shape, x.dtype), shape[0] * shape[2]
        args = y, x, left, *windows
        for_spans(lambda a, b: average_pooling(*args, a, b), n, x.size)
        return y, (left, windows, x.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return an equal share of ``dy`` for each step of a window."""
        return self._of_windows(average_pooling_backward, dy, cache), {}


@final
class MaxPooling1D(Pooling1D):
    """The largest value of each window; see `Pooling1D`."""

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, T', D, LANES), T' the number of windows."""
        (shape, windows), left = self._shape(x, lengths), steps_left(lengths, x)
        y, places, n = empty(shape, x.dtype), empty(shape, x.dtype), shape[0] * shape[2]
        args = y, places, x, left, *windows
        for_spans(lambda a, b: max_pooling(*args, a, b), n, x.size)
        return y, (places, windows, x.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` at the first step of a window where its largest value stands."""
        return self._of_windows(max_pooling_backward, dy, cache), {}
