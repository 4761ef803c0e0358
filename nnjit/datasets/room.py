"""How much the clips of recordings will take, and whether there is room for them."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from ..errors import ConfigError
from ..runtime import memory
from .encode import Encoding

_SAMPLED = 32  # recordings whose headers are read


def estimate(paths: Sequence[Path], sizes: Sequence[int], encoding: Encoding) -> int:
    """Return about how many bytes the clips of some recordings take, from a few of their headers.

    Parameters
    ----------
    paths : sequence of Path
        The recordings.
    sizes : sequence of int
        Bytes of each.
    encoding : Encoding
        How they are encoded.
    """
    read = clips = 0
    for i in np.unique(np.linspace(0, len(paths) - 1, _SAMPLED).astype(int)).tolist():
        found = _bytes_of(paths[i], encoding)
        if found is not None:
            read, clips = read + sizes[i], clips + found
    return round(sum(sizes) * (clips / read if read else 1.0))


def free(folder: Path) -> int:
    """Return the bytes that are free where a folder lies, or will lie."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fits_memory(n_bytes: int) -> bool:
    """Tell whether clips can be held in memory, beside what else a run needs."""
    most = memory.total()
    return most is None or 4 * n_bytes <= most


def _bytes_of(path: Path, encoding: Encoding) -> int | None:
    """Return the bytes of the clips of a recording as its header tells; None where it does not."""
    try:
        header = soundfile.info(str(path) if os.name == "nt" else os.fsencode(path))
        known = replace(
            encoding,
            rate=encoding.rate or header.samplerate,
            channels=encoding.channels or header.channels,
        )
        steps = known.n_steps
    except (soundfile.SoundFileError, ConfigError, OSError, TypeError, ValueError):
        return None
    if header.frames >= np.iinfo(np.int64).max:  # not told
        return None
    count = 1
    if steps is None:
        steps = (round(header.duration * (known.rate or 0)) - known.frame) // known.step + 1
    else:
        count = int(header.duration / (known.duration or 1))
    width = 4 * known.width * (known.channels or 1) if known.is_signal else 1
    return count * steps * width
