"""What is random while training, and off otherwise: dropout and noise."""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np

from ..errors import ConfigError
from ..kernels._lanes import LANES
from .base import Array, Gradients, Layer
from .spec import Codes, FlatCodes, Spec
from .steps import signal


class Random(Layer, ABC):
    """A layer that draws while training, and returns its inputs as they are otherwise."""

    def connect(self, spec: Spec) -> Spec:
        """Take anything but codes; see `Layer.connect`."""
        if isinstance(spec, Codes | FlatCodes):
            raise ConfigError(
                f"{self.name} cannot follow the input: codes are symbols, not numbers"
            )
        return spec

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return x, changed while training; ``rng`` is used only then."""
        if not training or not any(getattr(self, option) for option in self.chance):
            return x, None
        if rng is None:
            raise ConfigError(
                f"{type(self).__name__} needs rng while training: "
                "model.forward(x, training=True, rng=...)"
            )
        return self._draw(x, rng)

    @abstractmethod
    def _draw(self, x: Array, rng: np.random.Generator) -> tuple[Array, Any]:
        """Return the outputs, and by what `backward` multiplies (None: by 1)."""

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` under the mask of the forward pass."""
        return (dy if cache is None else dy * cache), {}


def _thinned(
    x: Array, shape: tuple[int, ...], rate: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    mask = rng.random(shape, np.float32) >= rate
    scale = mask.astype(x.dtype) / x.dtype.type(1 - rate)
    return x * scale, scale


def _check_rate(kind: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ConfigError(f"{kind} rate={rate} must be from 0 to below 1")


@final
class Dropout(Random):
    """Inverted dropout (Srivastava et al. 2014); outside training it returns its inputs.

    Parameters
    ----------
    rate
        Share of values that are set to 0 while training, from 0 to below 1; the others are divided
        by ``1 - rate``.
    """

    chance = ("rate",)

    def __init__(self, rate: float = 0.5) -> None:
        _check_rate("Dropout", rate)
        self.rate = rate

    def _draw(self, x: Array, rng: np.random.Generator) -> tuple[Array, Any]:
        return _thinned(x, x.shape, self.rate, rng)


@final
class SpatialDropout1D(Random):
    """Dropout of whole features: the same at all steps of a clip (Tompson et al. 2015).

    Parameters
    ----------
    rate
        Share of features that are set to 0 while training, from 0 to below 1; the others are
        divided by ``1 - rate``.
    """

    chance = ("rate",)

    def __init__(self, rate: float = 0.5) -> None:
        _check_rate("SpatialDropout1D", rate)
        self.rate = rate

    def connect(self, spec: Spec) -> Spec:
        """Take sequences only; see `Layer.connect`."""
        return signal(self.name, spec)

    def _draw(self, x: Array, rng: np.random.Generator) -> tuple[Array, Any]:
        return _thinned(x, (len(x), 1, x.shape[2], LANES), self.rate, rng)


@final
class GaussianNoise(Random):
    """Adds noise while training.

    Parameters
    ----------
    stddev
        Standard deviation of the noise, 0 or more.
    """

    chance = ("stddev",)

    def __init__(self, stddev: float = 0.1) -> None:
        if not 0 <= stddev < float("inf"):
            raise ConfigError(f"GaussianNoise stddev={stddev} must be 0 or more")
        self.stddev = stddev

    def _draw(self, x: Array, rng: np.random.Generator) -> tuple[Array, Any]:
        noise = rng.standard_normal(x.shape, np.float32).astype(x.dtype)
        return x + x.dtype.type(self.stddev) * noise, None
