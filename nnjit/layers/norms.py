"""Layer normalization and batch normalization."""

from abc import ABC
from typing import Any, final

import numpy as np

from ..errors import ConfigError
from ..kernels import norms
from ..kernels._lanes import LANES
from ..runtime.memory import empty
from ..runtime.threads import check_wanted, for_spans
from .arrays import Lengths
from .base import Array, Gradients, Layer, Parameter
from .projection import SUM_STEPS, add_in_order, blocks
from .spec import Codes, FlatCodes, Spec


class Normalization(Layer, ABC):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, gamma and beta (D,)."""

    epsilon: float
    center: bool
    scale: bool

    def connect(self, spec: Spec) -> Spec:
        """Take anything but codes; see `Layer.connect`."""
        if isinstance(spec, Codes | FlatCodes):
            raise ConfigError(
                f"{self.name} cannot follow the input: codes are symbols, not numbers"
            )
        return spec

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return gamma and beta, as far as there are such; see `Layer.parameters`."""
        shape = (spec.n_features,)
        found = {"gamma": Parameter("ones", shape)} if self.scale else {}
        return found | ({"beta": Parameter("zeros", shape)} if self.center else {})

    def _weights(self, x: Array) -> tuple[Array, Array]:
        """Return gamma and beta; 1 and 0 where there are none."""
        D = x.shape[-2]
        gamma = self.params["gamma"] if self.scale else np.ones(D, x.dtype)
        return gamma, self.params["beta"] if self.center else np.zeros(D, x.dtype)

    def _sums(self, dy: Array, normal: Array) -> tuple[Array, Array]:
        """Return the gradients of gamma and beta, (D,) each."""
        parts = blocks(len(dy), dy.shape[1], SUM_STEPS)
        sums = np.zeros((2, len(parts), dy.shape[2]), dy.dtype)

        def run(first: int, last: int) -> None:
            for n in range(first, last):
                check_wanted()
                norms.add_weight_gradients(*sums[:, n], dy[parts[n]], normal[parts[n]])

        for_spans(run, len(parts), dy.size)
        return add_in_order(sums[0]), add_in_order(sums[1])

    def _trained(self, dgamma: Array, dbeta: Array) -> Gradients:
        found = {"gamma": dgamma} if self.scale else {}
        return found | ({"beta": dbeta} if self.center else {})


def _check(kind: str, epsilon: float) -> None:
    if not epsilon > 0:
        raise ConfigError(f"{kind} epsilon={epsilon} must be above 0")


def _as_steps(x: Array) -> Array:
    """Return vectors as sequences of one step."""
    return x if x.ndim == 4 else x[:, None]


@final
class LayerNormalization(Normalization):
    """Every step of every clip has mean 0 and variance 1 over its features (Ba et al. 2016).

    Parameters
    ----------
    epsilon
        Added to the variance, above 0.
    center, scale
        Whether there is a beta, and a gamma.
    """

    def __init__(self, epsilon: float = 1e-3, center: bool = True, scale: bool = True) -> None:
        _check("LayerNormalization", epsilon)
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return an array of the shape of x."""
        steps, weights = _as_steps(x), self._weights(x)
        y, normal = empty(steps.shape, x.dtype), empty(steps.shape, x.dtype)
        scale, parts = empty((*steps.shape[:2], 1, LANES), x.dtype), blocks(*steps.shape[:2])

        def run(first: int, last: int) -> None:
            for part in parts[first:last]:
                check_wanted()
                out = y[part], normal[part], scale[part]
                norms.layer_norm(*out, steps[part], *weights, self.epsilon)

        for_spans(run, len(parts), x.size)
        return y.reshape(x.shape), (normal, scale)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, gamma and beta."""
        normal, scale = cache
        above, (gamma, _) = _as_steps(dy), self._weights(dy)
        dx, parts = empty(above.shape, dy.dtype), blocks(*above.shape[:2])

        def run(first: int, last: int) -> None:
            for part in parts[first:last]:
                check_wanted()
                args = dx[part], above[part], normal[part], scale[part]
                norms.layer_norm_backward(*args, gamma)

        for_spans(run, len(parts), dy.size)
        return dx.reshape(dy.shape), self._trained(*self._sums(above, normal))


@final
class BatchNormalization(Normalization):
    """Every feature has mean 0 and variance 1 over the steps of a batch (Ioffe & Szegedy 2015).

    While training, mean and variance are those of the batch, of the steps that clips have; they
    move the moving ones, which stand in their place afterwards, and lie in the model file and in
    checkpoints as parameters that have no gradient.

    Parameters
    ----------
    momentum
        Share of the moving mean and variance that stays with each batch, from 0 to below 1.
    epsilon
        Added to the variance, above 0.
    center, scale
        Whether there is a beta, and a gamma.
    """

    takes = ("lengths", "n_clips")
    moves = True

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ConfigError(f"BatchNormalization momentum={momentum} must be from 0 to below 1")
        _check("BatchNormalization", epsilon)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return what `Normalization` has, and the moving mean and variance."""
        shape = (spec.n_features,)
        moving = {"moving_mean": Parameter("zeros", shape)}
        return super().parameters(spec) | moving | {"moving_variance": Parameter("ones", shape)}

    def n_params(self) -> int:
        """Return the number of trained values: gamma and beta."""
        return sum(self.params[name].size for name in ("gamma", "beta") if name in self.params)

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
        n_clips: int | None = None,
    ) -> tuple[Array, Any]:
        """Return an array of the shape of x; ``n_clips`` of its lanes are clips (None: all)."""
        steps, weights, left = _as_steps(x), self._weights(x), None
        if training:
            left = _counted(steps, lengths, n_clips)
            mean, variance = self._moments(steps, left)
            self._move(mean, variance)
        else:
            mean, variance = self.params["moving_mean"], self.params["moving_variance"]
        scales = (1 / np.sqrt(variance + x.dtype.type(self.epsilon))).astype(x.dtype)
        y, normal = empty(steps.shape, x.dtype), empty(steps.shape, x.dtype)
        parts = blocks(*steps.shape[:2])

        def run(first: int, last: int) -> None:
            for part in parts[first:last]:
                check_wanted()
                norms.batch_norm(y[part], normal[part], steps[part], mean, scales, *weights)

        for_spans(run, len(parts), x.size)
        return y.reshape(x.shape), (normal, scales, left)

    def _moments(self, x: Array, left: Array) -> tuple[Array, Array]:
        """Return mean and variance of the steps that count, (D,)."""
        parts, D, n = (
            blocks(len(x), x.shape[1], SUM_STEPS),
            x.shape[2],
            float(left.sum(dtype=float)),
        )

        def moment(means: Array, power: int) -> Array:
            sums = np.zeros((len(parts), D), x.dtype)

            def run(first: int, last: int) -> None:
                for k in range(first, last):
                    check_wanted()
                    tile, time = parts[k]
                    here = left[tile] - x.dtype.type(time.start)
                    norms.add_moment(sums[k], x[parts[k]], means, power, here)

            for_spans(run, len(parts), x.size)
            return (add_in_order(sums.astype(float)) / n).astype(x.dtype)

        mean = moment(np.zeros(D, x.dtype), 1)
        return mean, moment(mean, 2)

    def _move(self, mean: Array, variance: Array) -> None:
        for name, value in {"moving_mean": mean, "moving_variance": variance}.items():
            moving, stays = self.params[name], self.params[name].dtype.type(self.momentum)
            moving[:] = stays * moving + (1 - stays) * value

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, gamma and beta."""
        normal, scales, left = cache
        above, (gamma, _) = _as_steps(dy), self._weights(dy)
        dgamma, dbeta = self._sums(above, normal)
        n = dy.dtype.type(1 if left is None else left.sum(dtype=float))
        mean, along = (dbeta / n, dgamma / n) if left is not None else np.zeros((2, *dbeta.shape))
        if left is None:
            left = _counted(above, None, None)
        dx, parts = empty(above.shape, dy.dtype), blocks(*above.shape[:2])
        weights = gamma * scales, mean.astype(dy.dtype), along.astype(dy.dtype)

        def run(first: int, last: int) -> None:
            for part in parts[first:last]:
                check_wanted()
                here = left[part[0]] - dy.dtype.type(part[1].start)
                norms.batch_norm_backward(dx[part], above[part], normal[part], *weights, here)

        for_spans(run, len(parts), dy.size)
        return dx.reshape(dy.shape), self._trained(dgamma, dbeta)


def _counted(x: Array, lengths: Lengths, n_clips: int | None) -> Array:
    """Return the steps of each lane that count, (tiles, 1, 1, LANES): 0 where there is no clip."""
    tiles, T = x.shape[:2]
    left = np.full((tiles, LANES), T) if lengths is None else np.minimum(lengths, T)
    is_clip = np.arange(tiles * LANES) < (tiles * LANES if n_clips is None else n_clips)
    return np.where(is_clip.reshape(tiles, LANES), left, 0)[:, None, None].astype(x.dtype)
