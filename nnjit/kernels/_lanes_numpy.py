"""Lanes, uncompiled: NumPy arrays of 16 numbers. The same names as in the compiled forms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16
HAS_PERMUTE = True  # so that uncompiled tests run the branch with permutations too
Lanes = NDArray[np.floating[Any]]
Codes = NDArray[np.integer[Any]]


def load(array: Lanes, i: int, t: int, j: int) -> Lanes:
    """Return the lanes ``array[i, t, j, :]``, of a 3-D array ``array[i, t, j : j + LANES]``."""
    return (array[i, t, j, :LANES] if array.ndim == 4 else array[i, t, j : j + LANES]).copy()


def lane(array: Lanes, i: int, t: int, j: int, n: int) -> Any:
    """Return the number ``array[i, t, j, n]``."""
    return array[i, t, j, n]


def store(array: Lanes, i: int, t: int, j: int, value: Lanes) -> None:
    """Write lanes to ``array[i, t, j, :]``, of a 3-D array to ``array[i, t, j : j + LANES]``."""
    if array.ndim == 4:
        array[i, t, j] = value
    else:
        array[i, t, j : j + LANES] = value


def weight(w: Lanes, k: int, m: int) -> Any:
    """Return the number ``w[k, m]``, of a 3-D array ``w[m // 8, k, m % 8]``."""
    return w[k, m] if w.ndim == 2 else w[m // 8, k, m % 8]


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
    """Logistic function, computed with tanh, so that it cannot overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def zeros_like(x: Lanes) -> Lanes:
    """Return lanes of zeros of the dtype of lanes."""
    return np.zeros_like(x)


def step(x: Lanes) -> Lanes:
    """Return 1 where x is above 0, else 0."""
    return (x > 0).astype(x.dtype)


def select(left: Lanes, t: int, x: Lanes, y: Lanes) -> Lanes:
    """Return x in the lanes with more than t steps left, y in the others."""
    return np.where(t < left, x, y)


exp, log, sqrt, sin, cos = np.exp, np.log, np.sqrt, np.sin, np.cos
absolute, maximum, minimum = np.absolute, np.maximum, np.minimum


def transpose(dst: Lanes, i: int, j: int, src: Lanes, s: int, t: int, k: int) -> None:
    """Write ``dst[i, j + a, b] = src[s, t, k + b, a]`` for a, b below LANES."""
    dst[i, j : j + LANES] = src[s, t, k : k + LANES].T


def transpose_rows(dst: Lanes, i: int, j: int, src: Lanes, rows: Codes, q: int) -> None:
    """Write ``dst[i, j + a, b] = src[rows[b], q + a]`` for a, b below LANES."""
    dst[i, j : j + LANES] = src[rows[:LANES], q : q + LANES].T


def lookup(table: Lanes, codes: Codes, i: int, t: int) -> Lanes:
    """Return ``table[codes[i, t, :]]`` for a table of LANES entries, held as lanes."""
    return table[codes[i, t]]


def add_by_code(sums: Lanes, codes: Lanes, i: int, t: int, y: Lanes, j: int) -> None:
    """Add ``y[i, t, j : j + LANES, n]`` to ``sums[i, codes[i, t, n], j:]`` for every lane n."""
    np.add.at(sums[i, :, j : j + LANES], codes[i, t], y[i, t, j : j + LANES].T)


def add_quads(sums: Lanes, codes: Lanes, i: int, t: int, y: Lanes, j: int) -> None:
    """Add ``y[i, t, j : j + 4, n]`` to quad n of ``sums[0, codes[i, t, n]]`` for every lane n."""
    rows = np.minimum(np.arange(j, j + 4), y.shape[2] - 1)
    quads = sums.reshape(-1, LANES, 4)  # a view
    quads[codes[i, t], np.arange(LANES)] += y[i, t, rows].T
