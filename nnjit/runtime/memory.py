"""Arrays for the kernels, aligned to cache lines: two threads never write to one line."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LINE = 64  # bytes
_SMALL = 1 << 18  # bytes; below, aligning takes longer than it saves


def total() -> int | None:
    """Return the bytes of memory that this process may have, None where that cannot be told."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not of POSIX
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(found, int(limit))
    except (OSError, ValueError):  # no limit, or another way to set one
        return found


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array as `numpy.empty` does; a large one begins at a line of the cache.

    No row of 16 numbers then lies in two lines, of which threads would fight for one.
    """
    rows: NDArray[Any] = np.empty(shape, dtype)
    if rows.nbytes < _SMALL:
        return rows
    size = rows.nbytes
    del rows  # no page of it was touched
    memory = np.empty(size + _LINE, np.uint8)
    begin = -memory.ctypes.data % _LINE
    rows = memory[begin : begin + size].view(dtype)
    return rows.reshape(shape)
