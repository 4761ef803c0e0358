"""Lanes, uncompiled: NumPy arrays of 16 numbers. The same names as in ``_lanes_llvm``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16
HAS_PERMUTE = True  # the shorter way, so that it is seen uncompiled too
Lanes = NDArray[np.floating[Any]]


def load(array: Lanes, t: int, j: int) -> Lanes:
    """Return the lanes ``array[t, j, :]``, of a 2-D array ``array[t, j : j + LANES]``."""
    return (array[t, j] if array.ndim == 3 else array[t, j : j + LANES]).copy()


def store(array: Lanes, t: int, j: int, value: Lanes) -> None:
    """Write lanes to ``array[t, j, :]``, of a 2-D array to ``array[t, j : j + LANES]``."""
    if array.ndim == 3:
        array[t, j] = value
    else:
        array[t, j : j + LANES] = value


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


def transpose(dst: Lanes, i: int, j: int, src: Lanes, t: int, k: int) -> None:
    """Write ``dst[i + a, j + b] = src[t, k + b, a]`` for a, b below LANES; dst is 2-D, src 3-D."""
    dst[i : i + LANES, j : j + LANES] = src[t, k : k + LANES].T


def transpose_rows(dst: Lanes, i: int, j: int, src: Lanes, rows: Lanes, q: int) -> None:
    """Write ``dst[i + a, j + b] = src[rows[b], q + a]`` for a, b below LANES."""
    dst[i : i + LANES, j : j + LANES] = src[rows[:LANES], q : q + LANES].T


def lookup(table: Lanes, codes: Lanes, t: int) -> Lanes:
    """Return ``table[codes[t, :]]`` for a table of LANES entries, held as lanes."""
    return table[codes[t]]


def add_quads(sums: Lanes, codes: Lanes, t: int, y: Lanes, j: int) -> None:
    """Add ``y[t, j : j + 4, n]`` to ``sums[n, codes[t, n], :]``; rows beyond the last repeat it."""
    rows = np.minimum(np.arange(j, j + 4), y.shape[1] - 1)
    sums[np.arange(LANES), codes[t]] += y[t, rows].T
