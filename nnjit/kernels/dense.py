"""A Dense layer on codes: ``one_hot(codes) @ W`` by looking rows up, without the zeros.

Row ``t * V + codes[t, n]`` of W, (T V, units), belongs to step t of lane n. Both kernels take a
range of steps, so that threads can share a layer: the rows of different steps are different.
"""

import numpy as np

from ._jit import jit
from ._lanes import LANES


@jit
def add_rows(z, codes, W, levels, begin, end):
    """Add to ``z[n]`` the rows that steps begin to end of lane n select; z is (LANES, units)."""
    for t in range(begin, end):
        for n in range(LANES):
            row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
            for u in range(z.shape[1]):
                z[n, u] += W[row, u]


@jit
def scatter_rows(W, codes, dz, levels, scale, begin, end):
    """Add ``scale * dz[n]`` to the rows that steps begin to end of lane n select."""
    for t in range(begin, end):
        for n in range(LANES):
            row = t * levels + np.intp(codes[t, n])  # bytes would overflow when not compiled
            for u in range(dz.shape[1]):
                W[row, u] += scale * dz[n, u]
