"""Dense layers, on vectors, on every step of sequences and on flat codes."""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import Any, final

import numpy as np

from .. import activations
from ..errors import ConfigError, ShapeError
from ..kernels._lanes import LANES
from ..kernels.dense import BLOCK, add_rows, dense_backward, dense_forward
from ..options import check_counts
from ..runtime.memory import empty
from ..runtime.threads import MOST_IN_A_CALL, check_wanted, for_spans
from .base import Array, Gradients, Layer, Parameter
from .gradients import OuterGradient, RowGradient
from .projection import activate, activate_backward, project, project_gradients
from .spec import Codes, FlatCodes, Signal, Spec, Vector

# Long sums are cut into this many parts, which are shared among the threads. The number is fixed,
# and the parts are added in order, so the bits do not depend on the number of threads.
_PARTS = 4
_LONG = 1024


@lru_cache(maxsize=256)
def _edges(n: int) -> Array:
    """Return the edges of the parts of a sum over range(n)."""
    parts = _PARTS if n >= _LONG else 1
    return np.array([n * p // parts for p in range(parts + 1)])


def _calls(edges: Array, first: int, last: int, work: float) -> Iterator[tuple[Array, int, int]]:
    """Yield ``(edges, first, last)`` of short calls for parts first to last.

    ``work`` is the number of multiplications of all parts.
    """
    n = ceil(work * (last - first) / (len(edges) - 1) / MOST_IN_A_CALL)
    if n <= 1:
        yield edges, first, last
        return
    size = max(1, (edges[last] - edges[first]) // n // BLOCK) * BLOCK
    for p in range(first, last):
        for begin in range(edges[p], edges[p + 1], size):
            check_wanted()
            cut = edges.copy()
            cut[p : p + 2] = begin, min(begin + size, edges[p + 1])
            yield cut, p, p + 1


@final
class Dense(Layer):
    """``y = f(x W + b)`` with W (D, units); of sequences, (N, T, D), at every step.

    Parameters
    ----------
    units
        Number of outputs.
    activation
        f: a name, or ``{"name": "softmax", "temperature": 2.0}``; see `nnjit.activations`.
    kernel_initializer, bias_initializer
        For W and b; see `nnjit.initializers`.
    """

    def __init__(
        self,
        units: int,
        activation: str | dict[str, Any] | activations.Activation = "identity",
        kernel_initializer: str = "xavier",
        bias_initializer: str = "zeros",
    ) -> None:
        check_counts("Dense", units=units)
        self.units = units
        self.activation = activations.get(activation)
        if units == 1 and isinstance(self.activation, activations.Softmax):
            raise ConfigError(
                "Dense units=1 with activation=softmax gives 1 for any input: "
                "use activation=sigmoid, or one unit for each class"
            )
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def connect(self, spec: Spec) -> Spec:
        """Take anything but codes that are not flat; see `Layer.connect`."""
        if isinstance(spec, Codes):
            raise ShapeError(f"{self.name} expected numbers, got {spec}: put Flatten before it")
        self._levels = spec.levels if isinstance(spec, FlatCodes) else 0
        return Signal(spec.n_steps, self.units) if isinstance(spec, Signal) else Vector(self.units)

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return W and b; see `Layer.parameters`."""
        return {
            "W": Parameter(self.kernel_initializer, (spec.n_features, self.units)),
            "b": Parameter(self.bias_initializer, (self.units,)),
        }

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return (tiles, units, LANES); of sequences, (tiles, T, units, LANES)."""
        if x.ndim == 4:
            z = empty((*x.shape[:2], self.units, LANES), x.dtype)
            project(z, x, self.params["W"], self.params["b"])
            y = activate(self.activation, z)
            return y, (x, y, z)
        z = self.linear(x)
        y = self.activation.forward(z)
        return y, (x, y, z)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, W and b."""
        x, y, z = cache
        if x.ndim == 4:
            return self._steps_backward(activate_backward(self.activation, dy, y, z), x)
        return self.linear_backward(self.activation.backward(dy, y, z), x)

    def linear(self, x: Array) -> Array:
        """Return the logits ``x W + b``, (tiles, units, LANES)."""
        W, b = self.params["W"], self.params["b"]
        edges = _edges(x.shape[1])
        shape = (len(edges) - 1, len(x), 1, self.units, LANES)
        sums, work = np.zeros(shape, W.dtype), x.size * self.units

        def run(first: int, last: int) -> None:
            if not self._levels:
                for cut, begin, end in _calls(edges, first, last, work):
                    dense_forward(sums, W, x[:, None], cut, begin, end)
                return
            for i, codes in enumerate(x):
                rows = np.zeros((last - first, LANES, self.units), W.dtype)
                for cut, begin, end in _calls(edges, first, last, work / len(x)):
                    parts = rows[begin - first : end - first]
                    add_rows(parts, codes, W, self._levels, cut[begin : end + 1])
                sums[first:last, i, 0] = rows.transpose(0, 2, 1)

        for_spans(run, len(sums), work)
        z: Array = sums.sum(axis=0)[:, 0] + b[:, None]
        return z

    def linear_backward(self, dz: Array, x: Array) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, W and b from that of the logits."""
        W = self.params["W"]
        db = dz.sum(axis=(0, 2))
        if self._levels:
            rows = np.ascontiguousarray(dz.transpose(0, 2, 1))
            return None, {"W": RowGradient(x, rows, self._levels), "b": db}
        dx = empty(x.shape, W.dtype)
        args = dz[:, None], W, dx[:, None]
        for_spans(lambda a, b: dense_backward(*args, a, b), x.shape[1], x.size * self.units)
        return dx, {"W": OuterGradient(x, dz), "b": db}

    def _steps_backward(self, dz: Array, x: Array) -> tuple[Array | None, Gradients]:
        """Do what `linear_backward` does for sequences."""
        dW, db = project_gradients(dz, x)
        if self.is_first:
            return None, {"W": dW, "b": db}
        dx = empty(x.shape, dz.dtype)
        project(dx, dz, np.ascontiguousarray(self.params["W"].T))
        return dx, {"W": dW, "b": db}
