"""Dropout."""

from typing import Any, final

import numpy as np

from ..errors import ConfigError
from .base import Array, Gradients, Layer
from .spec import Codes, FlatCodes, Spec


@final
class Dropout(Layer):
    """Inverted dropout (Srivastava et al. 2014); outside training it returns its inputs.

    Parameters
    ----------
    rate
        Share of values that are set to 0 while training, from 0 to below 1; the others are divided
        by ``1 - rate``.
    """

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ConfigError(f"Dropout rate={rate} must be from 0 to below 1")
        self.rate = rate

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
        """Return x, with dropped values while training; ``rng`` is used only then."""
        if not training or self.rate == 0:
            return x, None
        if rng is None:
            raise ConfigError(
                "Dropout needs rng while training: model.forward(x, training=True, rng=...)"
            )
        mask = rng.random(x.shape, np.float32) >= self.rate
        scale = mask.astype(x.dtype) / x.dtype.type(1 - self.rate)
        return x * scale, scale

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` under the mask of the forward pass."""
        return (dy if cache is None else dy * cache), {}
