"""From a recording to clips of symbols: read, normalise, resample, quantise, cut."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..errors import DataError
from .encode import Encoding

_BLOCK = 1 << 20  # frames; mixing down block by block keeps only one channel in memory
_PLACEHOLDER = 0x7FFF_0000  # programs that stream a WAV write a size above this: "unknown"


class Prepared(NamedTuple):
    """The clips of one recording.

    Attributes
    ----------
    codes : array of uint8, shape (N, T)
        Symbols.
    offsets : array of float64, shape (N,)
        Start of each clip, seconds into the recording.
    rate : float
        Samples per second of the clips.
    """

    codes: NDArray[np.uint8]
    offsets: NDArray[np.float64]
    rate: float


def read(path: Path) -> tuple[NDArray[np.float64], float]:
    """Read a recording in any format that soundfile knows, mixed down to one channel.

    Parameters
    ----------
    path : Path
        File; integer and float formats alike.

    Returns
    -------
    signal : array of float64, shape (T,)
        The mean over the channels, nominally in [-1, 1].
    rate : float
        Samples per second.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged, or ends before its header says so.
    """
    try:
        # Channels of inf and -inf average to NaN, which `normalise` reports.
        with soundfile.SoundFile(path) as file, np.errstate(invalid="ignore"):
            blocks = [block.mean(axis=1) for block in file.blocks(_BLOCK, always_2d=True)]
            frames, rate, log = file.frames, float(file.samplerate), file.extra_info
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        # soundfile answers a headerless .raw file with a TypeError.
        reason = str(error).removeprefix(f"Error opening {str(path)!r}: ").rstrip(".")
        raise DataError(f"cannot be read as audio ({reason}): replace or remove it") from None
    signal = np.concatenate(blocks) if blocks else np.empty(0)
    if len(signal) < frames or _is_truncated(log):
        raise DataError("ends before its header says so: copy or download it again")
    return signal, rate


def _is_truncated(log: str) -> bool:
    # libsndfile reads a truncated WAV or AIFF without complaint and notes it in its log only.
    sizes = [(int(a), int(b)) for a, b in re.findall(r"(\d+) \(should be (\d+)\)", log)]
    return any(1.01 * actual < claimed < _PLACEHOLDER for claimed, actual in sizes)


def normalise(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale a whole recording to [0, 1]: subtract its minimum, divide by its maximum.

    Parameters
    ----------
    signal : array, shape (T,)
        Samples of any range.

    Raises
    ------
    DataError
        If the signal is empty, silent, constant or not finite.
    """
    if not signal.size:
        raise DataError("holds no samples: replace or remove it")
    low, high = float(signal.min()), float(signal.max())
    if not np.isfinite(high - low):
        raise DataError("holds samples that are NaN or infinite: export it again")
    scaled = signal - low
    if scaled.max() == 0:
        raise DataError("is silent or constant: replace or remove it")
    return scaled / scaled.max()


def resample(
    signal: NDArray[np.float64], rate: float, encoding: Encoding
) -> tuple[NDArray[np.float64], float]:
    """Bring a normalised signal to the rate of the encoding.

    Parameters
    ----------
    signal : array, shape (T,)
        Samples in [0, 1].
    rate : float
        Its samples per second.
    encoding : Encoding
        With the target rate; None keeps `rate`.

    Returns
    -------
    signal : array of float64
        Samples in [0, 1]; what the filter overshoots is clipped.
    stride : float
        Seconds from one returned sample to the next. With `decimate` it is not always
        1 / encoding.rate.

    Raises
    ------
    DataError
        If `decimate` is asked to raise the rate.
    """
    if encoding.rate is None or encoding.rate == rate:
        return signal, 1 / rate
    if encoding.resampler == "decimate":
        step = int(rate / encoding.rate)
        if step < 1:
            raise DataError(
                f"has a rate of {rate:g}, below dataset.rate={encoding.rate:g}, and decimating "
                "cannot raise it: set dataset.resampler=soxr"
            )
        return signal[::step], step / rate
    # The filter takes the signal as 0 outside the file: centre it, or both ends start with a step.
    mean = signal.mean()
    resampled = soxr.resample(signal - mean, rate, encoding.rate, quality="VHQ") + mean
    return np.clip(resampled, 0, 1), 1 / encoding.rate


def encode_signal(signal: NDArray[np.float64], rate: float, encoding: Encoding) -> Prepared:
    """Turn a mono signal into clips of symbols.

    Parameters
    ----------
    signal : array of float64, shape (T,)
        One whole recording; it is normalised by its own minimum and maximum.
    rate : float
        Its samples per second.
    encoding : Encoding
        What to make of it; a rate of None keeps `rate`.

    Returns
    -------
    Prepared
        At least one clip. A remainder shorter than a clip is dropped.

    Raises
    ------
    DataError
        If the signal is silent, constant, not finite or shorter than one clip.
    """
    encoding = replace(encoding, rate=encoding.rate or rate)
    normalised = normalise(signal)
    resampled, stride = resample(normalised, rate, encoding)
    n_steps = encoding.n_steps
    n_clips = len(resampled) // n_steps
    if n_clips == 0:
        raise DataError(
            f"lasts {len(signal) / rate:.3g} s, shorter than one clip of {encoding.duration:g} s: "
            "remove it or lower dataset.duration"
        )
    codes = encoding.quantise(resampled[: n_clips * n_steps]).reshape(n_clips, n_steps)
    offsets = np.arange(n_clips, dtype=np.float64) * (n_steps * stride)
    return Prepared(codes, offsets, encoding.rate or rate)


def prepare_file(path: Path, encoding: Encoding) -> Prepared:
    """Read a recording and turn it into clips of symbols; raises as `read`, `encode_signal`."""
    signal, rate = read(path)
    return encode_signal(signal, rate, encoding)


def encode_file(
    path: str | Path, encoding: Encoding
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Encode a recording for prediction, exactly as in training.

    Parameters
    ----------
    path : str or Path
        File in any format that soundfile knows.
    encoding : Encoding
        The one stored with the model.

    Returns
    -------
    codes : array of uint8, shape (N, T)
        Symbols, 0 to levels - 1.
    offsets : array of float64, shape (N,)
        Start of each clip, seconds into the file.

    Raises
    ------
    DataError
        If the file is missing, unreadable, silent, constant or shorter than one clip.
    """
    try:
        codes, offsets, _ = prepare_file(Path(path), encoding)
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    return codes, offsets
