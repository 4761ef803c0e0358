"""Lanes, uncompiled: NumPy arrays of 16 numbers. The same names as in ``_lanes_llvm``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16
Lanes = NDArray[np.floating[Any]]


def load(array: Lanes, t: int, j: int) -> Lanes:
    """Return the lanes ``array[t, j, :]``."""
    return array[t, j].copy()


def store(array: Lanes, t: int, j: int, value: Lanes) -> None:
    """Write lanes to ``array[t, j, :]``."""
    array[t, j] = value


def zeros(array: Lanes) -> Lanes:
    """Return lanes of zeros of the dtype of ``array``."""
    return np.zeros(LANES, array.dtype)


def total(x: Lanes) -> Any:
    """Sum of the lanes, in a fixed order (by halves)."""
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def tanh(x: Lanes) -> Lanes:
    """Hyperbolic tangent."""
    return np.tanh(x)


def sigmoid(x: Lanes) -> Lanes:
    """Logistic function by way of tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5
