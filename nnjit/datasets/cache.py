"""Prepared clips on disk, under a key made of everything that shaped them."""

import hashlib
import json
import math
import os
import tempfile
import warnings
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from . import audio, blocks, containers, encode, mel, mpeg, ogg, raw, reader, spliced
from .audio import Prepared, prepare_file
from .encode import LOG_MEL, Encoding
from .reader import open_regular

_NAMES = ("codes", "offsets", "rate", "remarks")


def cached_clips(path: Path, encoding: Encoding, folder: Path | None) -> Prepared:
    """Return the clips of a recording, from the cache where it holds them.

    Parameters
    ----------
    path : Path
        The recording.
    encoding : Encoding
        How to encode it.
    folder : Path or None
        Where the cache lives; None does without.

    Returns
    -------
    Prepared
        As `prepare_file` gives it.

    Raises
    ------
    DataError
        If the recording cannot be read or encoded. Failures are never cached.
    """
    if folder is None:
        return prepare_file(path, encoding)
    before = _state(path)
    entry = folder / f"{cache_key(path, encoding)}.npz"
    prepared = _load(entry, encoding)
    if prepared is None:
        prepared = prepare_file(path, encoding)
        if _state(path) == before:  # else the key may be that of other content
            _store(entry, prepared)
    return prepared


def cache_key(path: Path, encoding: Encoding) -> str:
    """Hash what shapes the clips: the file's content, the encoding, the code and its libraries.

    Raises
    ------
    DataError
        If the file cannot be opened.
    """
    with open_regular(path) as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [content, encoding.to_dict(), _code_hash()]
    if encoding.method == LOG_MEL:
        parts += mel.versions()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _code_hash() -> str:
    digest = hashlib.sha256()
    for module in (audio, blocks, containers, encode, mel, mpeg, ogg, raw, reader, spliced):
        digest.update(Path(str(module.__file__)).read_bytes())
    versions = (
        np.__version__,
        soxr.__version__,
        soxr.__libsoxr_version__,
        soundfile.__version__,
        soundfile.__libsndfile_version__,
    )
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _load(entry: Path, encoding: Encoding) -> Prepared | None:
    """Return what an entry holds; None where there is none, or it is not what was stored."""
    try:
        with open_regular(entry) as file, zipfile.ZipFile(file) as archive:
            codes, offsets, rates, remarks = (_array(archive, name) for name in _NAMES)
        rate = float(rates[()])
        prepared = Prepared(codes, offsets, rate, tuple(str(text) for text in remarks.tolist()))
        return prepared if _is_sound(prepared, encoding) else None
    except Exception:  # whatever a damaged archive raises, it only means: prepare again
        return None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array that is as long as its header says; ValueError otherwise."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # what is packed may unpack without end
        raise ValueError(name)
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(name)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    if fortran or dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(name)
    return np.frombuffer(bytearray(data), dtype).reshape(shape)


def _is_sound(prepared: Prepared, encoding: Encoding) -> bool:
    """Tell whether clips can come from a recording under this encoding."""
    codes, offsets, rate, _ = prepared
    if not 0 < rate < math.inf or encoding.rate not in (None, rate):
        return False
    if codes.ndim < 2 or 0 in codes.shape:
        return False
    n_steps = replace(encoding, rate=rate).n_steps
    if not (len(codes) == 1 if n_steps is None else codes.shape[1] == n_steps):
        return False
    if encoding.is_signal:
        width = codes.shape[2] if codes.ndim == 3 else 0
        wanted = encoding.width * (encoding.channels or max(1, width // encoding.width))
        sound = codes.dtype == np.float32 and width == wanted and bool(np.isfinite(codes).all())
    else:
        sound = codes.dtype == np.uint8 and codes.ndim == 2 and int(codes.max()) < encoding.levels
    return (
        sound
        and offsets.dtype == np.float64
        and offsets.shape == (len(codes),)
        and bool(np.isfinite(offsets).all())
        and offsets[0] == 0
        and bool((np.diff(offsets) > 0).all())
    )


def _store(entry: Path, prepared: Prepared) -> None:
    # A cache that cannot be written costs time, not results.
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=entry.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.savez(
                file,
                codes=prepared.codes,
                offsets=prepared.offsets,
                rate=np.float64(prepared.rate),
                remarks=np.array(prepared.remarks, str),
            )
        os.replace(temporary, entry)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        warnings.warn(
            f"the cache in {entry.parent} cannot be written ({error.strerror}): "
            "set dataset.cache_dir to a writable folder, or to null",
            stacklevel=2,
        )
