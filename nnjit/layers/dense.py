"""Dense layers, on vectors and on flat codes."""

from itertools import pairwise
from typing import Any, final

import numpy as np

from .. import activations, initializers
from ..errors import ConfigError, ShapeError
from ..kernels._lanes import LANES
from ..kernels.dense import add_rows, dense_backward, dense_forward, scatter_rows
from ..threads import for_each
from .base import Array, Gradients, Layer
from .spec import FlatCodes, Spec, Vector

# Long sums are cut into this many parts, each of which a thread can take. The number is fixed, and
# the parts are added in order, so the bits do not depend on the threads.
_PARTS = 4
_LONG = 1024


def _parts(n: int) -> list[slice]:
    """Cut range(n) into the fixed parts of a long sum."""
    if n < _LONG:
        return [slice(0, n)]
    edges = np.linspace(0, n, _PARTS + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _units_as_lanes(x: Array) -> Array:
    """View (..., units) as (units / LANES, rows, LANES)."""
    return x.reshape(-1, x.shape[-1] // LANES, LANES).transpose(1, 0, 2)


@final
class RowGradient:
    """The gradient of a weight matrix that is looked up by row: only rows that were read have one.

    Row ``t * levels + codes[t, n]`` receives ``dz[n]``. ``codes`` is (tiles, T, LANES), ``dz`` is
    (tiles, LANES, units).
    """

    def __init__(self, codes: Array, dz: Array, levels: int) -> None:
        self.codes, self.dz, self.levels = codes, dz, levels

    def add_to(self, W: Array, scale: float) -> None:
        """Add ``scale`` times the gradient to ``W``, (T levels, units), in place."""
        parts = _parts(self.codes.shape[1])
        factor = W.dtype.type(scale)

        def run(p: int) -> None:
            for codes, dz in zip(self.codes, self.dz, strict=True):
                scatter_rows(W, codes, dz, self.levels, factor, parts[p].start, parts[p].stop)

        for_each(run, len(parts))

    def dense(self) -> Array:
        """Return the whole matrix, (T levels, units)."""
        T, units = self.codes.shape[1], self.dz.shape[-1]
        out = np.zeros((T * self.levels, units), self.dz.dtype)
        self.add_to(out, 1.0)
        return out


def as_array(gradient: Array | RowGradient) -> Array:
    """Return a gradient of either kind as a whole array."""
    return gradient.dense() if isinstance(gradient, RowGradient) else gradient


@final
class Dense(Layer):
    """``y = f(x W + b)`` with W (D, units).

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
        if units < 1:
            raise ConfigError(f"Dense units={units} must be 1 or more")
        self.units = units
        self.activation = activations.get(activation)
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, spec: Spec, rng: np.random.Generator, dtype: Any) -> Spec:
        """Draw W and b; see `Layer.build`."""
        if not isinstance(spec, Vector | FlatCodes):
            raise ShapeError(
                f"{self.name} expected (N, D), got {spec}: put Flatten before it, "
                "or set return_sequences=false in the layer before"
            )
        self._levels = spec.levels if isinstance(spec, FlatCodes) else 0
        inputs = spec.n_features if isinstance(spec, Vector) else spec.n_steps * spec.levels
        draw = initializers.fill
        self.params = {
            "W": draw(self.kernel_initializer, (inputs, self.units), rng, dtype),
            "b": draw(self.bias_initializer, (self.units,), rng, dtype),
        }
        return Vector(self.units)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return (tiles, units, LANES)."""
        z = self.linear(x)
        y = self.activation.forward(z)
        return y, (x, y, z)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, W and b."""
        x, y, z = cache
        return self.linear_backward(self.activation.backward(dy, y, z), x)

    def linear(self, x: Array) -> Array:
        """Return the logits ``x W + b``, (tiles, units, LANES)."""
        W, b = self.params["W"], self.params["b"]
        parts = _parts(x.shape[1])
        sums = np.zeros((len(parts), len(x), self.units, LANES), W.dtype)

        def run(p: int) -> None:
            begin, end = parts[p].start, parts[p].stop
            if not self._levels:
                dense_forward(sums[p], W, x, begin, end)
                return
            for i, codes in enumerate(x):
                rows = np.zeros((LANES, self.units), W.dtype)
                add_rows(rows, codes, W, self._levels, begin, end)
                sums[p, i] = rows.T

        for_each(run, len(parts))
        return sums.sum(axis=0) + b[:, None]

    def linear_backward(self, dz: Array, x: Array) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, W and b from that of the logits."""
        W = self.params["W"]
        db = dz.sum(axis=(0, 2))
        if self._levels:
            rows = np.ascontiguousarray(dz.transpose(0, 2, 1))
            return None, {"W": RowGradient(x, rows, self._levels), "b": db}
        if self.units % LANES:
            dW = np.matmul(x, dz.transpose(0, 2, 1)).sum(axis=0)
            return np.matmul(W, dz), {"W": dW, "b": db}
        dx, dW = np.empty(x.shape, W.dtype), np.empty(W.shape, W.dtype)
        turned = np.ascontiguousarray(_units_as_lanes(dz.transpose(0, 2, 1)))
        columns = _units_as_lanes(dW)
        parts = _parts(x.shape[1])

        def run(p: int) -> None:
            dense_backward(dz, turned, W, x, dx, columns, parts[p].start, parts[p].stop)

        for_each(run, len(parts))
        return dx, {"W": dW, "b": db}
