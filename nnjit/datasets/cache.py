"""Prepared clips on disk, under a key made of everything that shaped them."""

import hashlib
import json
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..errors import DataError
from . import audio, encode
from .audio import Prepared, prepare_file
from .encode import Encoding


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
    entry = folder / f"{cache_key(path, encoding)}.npz"
    prepared = _load(entry)
    if prepared is None:
        prepared = prepare_file(path, encoding)
        _store(entry, prepared)
    return prepared


def cache_key(path: Path, encoding: Encoding) -> str:
    """Hash what shapes the clips: the file's content, the encoding, the code and its libraries.

    Raises
    ------
    DataError
        If the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror}): check it is there") from None
    parts = [content, encoding.to_dict(), _code_hash()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _code_hash() -> str:
    digest = hashlib.sha256()
    for module in (audio, encode):
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


def _load(entry: Path) -> Prepared | None:
    try:
        with entry.open("rb") as file, np.load(file) as arrays:
            codes, offsets = arrays["codes"], arrays["offsets"]
            rate = float(arrays["rate"])
    except FileNotFoundError:
        return None
    except Exception:  # whatever a damaged archive raises, it only means: prepare again
        return None
    sound = codes.dtype == np.uint8 and codes.ndim == 2 and offsets.shape == codes.shape[:1]
    return Prepared(codes, offsets, rate) if sound else None


def _store(entry: Path, prepared: Prepared) -> None:
    # A cache that cannot be written costs time, not results.
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=entry.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.savez(
                file, codes=prepared.codes, offsets=prepared.offsets, rate=np.float64(prepared.rate)
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
