"""Flatten: sequences to vectors, without a copy; vectors stay unchanged."""

from typing import Any, final

import numpy as np

from ..errors import ShapeError
from .base import Array, Gradients, Layer
from .spec import Codes, FlatCodes, Signal, Spec, Vector


@final
class Flatten(Layer):
    """(N, T, D) to (N, T D), and codes to flat codes; a view in both directions."""

    needs_all_steps = True

    def connect(self, spec: Spec) -> Spec:
        """Take anything of one length, as Keras does; see `Layer.connect`."""
        if not isinstance(spec, Codes | Signal):
            return spec
        if spec.n_steps is None:
            raise ShapeError(
                f"{self.name} needs clips of one length, got {spec}: take the last state instead, "
                "return_sequences=false in the recurrent layer before it, LastStep or "
                "GlobalAveragePooling1D, or cut them to one length"
            )
        if isinstance(spec, Codes):
            return FlatCodes(spec.n_steps, spec.levels)
        return Vector(spec.n_steps * spec.n_features)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return (tiles, T D, LANES); codes and vectors stay as they are."""
        if x.ndim == 3:
            return x, x.shape
        tiles, T, D, lanes = x.shape
        return x.reshape(tiles, T * D, lanes), x.shape

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return ``dy`` in the shape of the inputs."""
        return dy.reshape(cache), {}
