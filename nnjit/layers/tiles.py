"""Conversion between batch-first arrays and tiles of lanes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError, short
from ..kernels._lanes import LANES
from ..kernels.batch import gather
from ..runtime.threads import check_wanted

Array = NDArray[Any]
_MOST_IN_A_CALL = 1 << 26  # values that one call of a kernel gathers


def untile(x: Array, n: int) -> Array:
    """Turn (tiles, units, LANES) into (n, units), a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 1).reshape(-1, x.shape[1])[:n])


def tile(x: Array) -> Array:
    """Turn (n, units) into (tiles, units, LANES), with zeros in the lanes beyond n."""
    tiles = -(-len(x) // LANES)
    padded = np.zeros((tiles * LANES, x.shape[1]), x.dtype)
    padded[: len(x)] = x
    return np.ascontiguousarray(padded.reshape(tiles, LANES, -1).transpose(0, 2, 1))


def tile_states(state: dict[str, Array], shape: tuple[int, int], layer: str) -> dict[str, Array]:
    """Return the states of a layer in tiles; ShapeError if one does not have this shape."""
    for name, value in state.items():
        if np.shape(value) != shape:
            raise ShapeError(
                f"the state {short(name)} of {layer} is {np.shape(value)}, it needs {shape}"
            )
    return {name: tile(np.asarray(value)) for name, value in state.items()}


def _gather(tiles: Array, data: Array, rows: Array) -> None:
    """Call `gather`, a few tiles at a time if they are large: signals wait for each call."""
    most = max(1, _MOST_IN_A_CALL // tiles[0].size)
    if len(tiles) <= most:
        gather(tiles, data, rows)
        return
    rows = np.concatenate([rows, np.full(len(tiles) * LANES - len(rows), rows[0])])
    for i in range(0, len(tiles), most):
        check_wanted()
        gather(tiles[i : i + most], data, rows[i * LANES : (i + most) * LANES])


def gathered(data: Array, rows: Array) -> Array:
    """Return ``data[rows]`` in tiles, (tiles, ..., LANES); unused lanes repeat the first row."""
    check_wanted()
    tiles = np.empty((-(-len(rows) // LANES), data[0].size, LANES), data.dtype)
    _gather(tiles, data.reshape(len(data), -1), rows)
    return tiles.reshape(len(tiles), *data.shape[1:], LANES)
