"""What layers over the steps of sequences share."""

import numpy as np

from ..errors import ShapeError
from ..kernels._lanes import LANES
from .arrays import Lengths
from .base import Array
from .spec import Codes, Signal, Spec


def signal(name: str, spec: Spec) -> Signal:
    """Return the kind of inputs of a layer that takes sequences of vectors only.

    Raises
    ------
    ShapeError
        Where they are something else.
    """
    if isinstance(spec, Signal):
        return spec
    remedy = "set return_sequences=true in the layer before, or leave this one out"
    if isinstance(spec, Codes):
        remedy = "codes are symbols, not numbers: put Embedding before it"
    raise ShapeError(f"{name} expected (N, T, D), got {spec}: {remedy}")


def steps_left(lengths: Lengths, x: Array) -> Array:
    """Return the steps of each clip, (tiles, 1, 1, LANES), as kernels take them; None: all T."""
    if lengths is None:
        return np.full((len(x), 1, 1, LANES), x.shape[1], x.dtype)
    return np.ascontiguousarray(lengths[:, None, None], x.dtype)
