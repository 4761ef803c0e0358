"""Arrays for the kernels, aligned to cache lines, so that two threads never write to one line."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LINE = 64  # bytes
_SMALL = 1 << 18  # bytes; below, aligning takes longer than it saves


def total() -> int | None:
    """Return the bytes of memory that this process may use, None where that is not known."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(physical, int(limit))
    except (OSError, ValueError):  # no limit, or one that is not set by cgroup v2
        return physical


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array as `numpy.empty` does; a large one begins at a cache line.

    A row of 16 numbers then never straddles two lines, which would cause false sharing.
    """
    rows: NDArray[Any] = np.empty(shape, dtype)
    if rows.nbytes < _SMALL:
        return rows
    size = rows.nbytes
    del rows  # its pages have not been touched, so it has cost no memory
    memory = np.empty(size + _LINE, np.uint8)
    begin = -memory.ctypes.data % _LINE
    rows = memory[begin : begin + size].view(dtype)
    return rows.reshape(shape)
