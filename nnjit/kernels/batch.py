"""From a data set, batch first, to tiles of lanes: the one transposition of a training step."""

from ._jit import jit
from ._lanes import LANES

_BLOCK = 64  # steps that are turned at once: a block of every lane stays in the cache


@jit
def gather(tiles, data, indices):
    """Write ``tiles[n // LANES, t, ..., n % LANES] = data[indices[n], t, ...]``.

    Parameters
    ----------
    tiles : (ceil(N / LANES), T * D, LANES)
        Lanes beyond N repeat the first clip: harmless values, whose results nobody reads.
    data : (M, T * D)
    indices : (N,)
    """
    T = data.shape[1]
    for i in range(tiles.shape[0]):
        for begin in range(0, T, _BLOCK):
            end = min(begin + _BLOCK, T)
            for lane in range(LANES):
                n = i * LANES + lane
                source = indices[n] if n < indices.shape[0] else indices[0]
                for t in range(begin, end):
                    tiles[i, t, lane] = data[source, t]
