"""From all steps of a clip to one vector: mean, largest value, last step."""

from abc import ABC
from typing import Any, final

import numpy as np

from ..kernels._lanes import LANES
from ..kernels.pooling import max_over_steps, mean_over_steps, mean_over_steps_backward
from ..runtime.memory import empty
from ..runtime.threads import for_spans
from .arrays import Lengths
from .base import Array, Gradients, Layer
from .spec import Spec, Vector
from .steps import signal, steps_left


class GlobalPooling(Layer, ABC):
    """(N, T, D) to (N, D); of clips of any length, only the steps of each are seen."""

    takes = ("lengths",)

    def connect(self, spec: Spec) -> Spec:
        """Take sequences only; see `Layer.connect`."""
        return Vector(signal(self.name, spec).n_features)


@final
class GlobalAveragePooling1D(GlobalPooling):
    """The mean over the steps of each clip."""

    needs_all_steps = True

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, D, LANES)."""
        left, (tiles, _, D, _) = steps_left(lengths, x), x.shape
        y = np.empty((tiles, 1, D, LANES), x.dtype)
        for_spans(lambda a, b: mean_over_steps(y, x, left, a, b), tiles * D, x.size)
        return y[:, 0], (left, x.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return an equal share of ``dy`` for each step of a clip."""
        left, shape = cache
        dx, n = empty(shape, dy.dtype), shape[0] * shape[2]
        args = dx, dy[:, None], left
        for_spans(lambda a, b: mean_over_steps_backward(*args, a, b), n, dx.size)
        return dx, {}


@final
class GlobalMaxPooling1D(GlobalPooling):
    """The largest value over the steps of each clip."""

    needs_all_steps = True

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, D, LANES)."""
        left, (tiles, _, D, _) = steps_left(lengths, x), x.shape
        y, places = np.empty((2, tiles, 1, D, LANES), x.dtype)
        for_spans(lambda a, b: max_over_steps(y, places, x, left, a, b), tiles * D, x.size)
        return y[:, 0], (places, x.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` at the first step where the largest value stands, 0 elsewhere."""
        places, shape = cache
        return _at(places.astype(np.intp), dy, shape), {}


@final
class LastStep(GlobalPooling):
    """The last step of each clip; `Recurrent` without ``return_sequences`` gives it by itself."""

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, D, LANES)."""
        last = steps_left(lengths, x).astype(np.intp) - 1
        return np.take_along_axis(x, last, axis=1)[:, 0], (last, x.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` at the last step of each clip, 0 elsewhere."""
        return _at(cache[0], dy, cache[1]), {}


def _at(steps: Array, dy: Array, shape: tuple[int, ...]) -> Array:
    """Return ``dy`` at one step of each clip and feature, 0 elsewhere."""
    dx = np.zeros(shape, dy.dtype)
    np.put_along_axis(dx, steps, dy[:, None], axis=1)
    return dx
