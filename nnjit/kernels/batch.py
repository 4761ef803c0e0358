"""Gathers clips of a data set, (N, T), into tiles of lanes, (tiles, T, LANES)."""

import numpy as np

from ._jit import jit
from ._lanes import LANES, transpose_rows


@jit
def gather(tiles, data, indices):
    """Write ``tiles[n // LANES, t, n % LANES] = data[indices[n], t]``.

    Parameters
    ----------
    tiles : (ceil(N / LANES), T, LANES)
        Lanes beyond N repeat the first clip; their results are not used.
    data : (M, T)
    indices : (N,)
    """
    T = data.shape[1]
    rows = np.empty(LANES, np.int64)
    for i in range(tiles.shape[0]):
        for lane in range(LANES):
            n = i * LANES + lane
            rows[lane] = indices[n] if n < indices.shape[0] else indices[0]
        in_blocks = T - T % LANES
        for t in range(0, in_blocks, LANES):
            transpose_rows(tiles, i, t, data, rows, t)
        for t in range(in_blocks, T):
            for lane in range(LANES):
                tiles[i, t, lane] = data[rows[lane], t]
