"""From a recording to clips: normalise, resample, quantise or frame, cut; block by block.

A recording is gone through three times (its range; its mean; its clips), so that memory does not
grow with its length: some 100 MB in all, and for a data set its symbols, one byte a step, twice.
Their number is at most 1,024 a byte of the file, or a million (`reader.most_frames`), whatever its
header says. The result is the same for any size of the blocks, to the bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import soxr
from numpy.typing import NDArray

from ..errors import DataError
from .blocks import Blocks, Pieces, Range, UnfitError, checked_range, cut, stride
from .encode import Encoding
from .raw import signals_of
from .reader import BLOCK, AudioFile, most_frames, warn


class Prepared(NamedTuple):
    """The clips of one recording.

    Attributes
    ----------
    codes : array of uint8, shape (N, T), or of float32, shape (N, T, D)
        Symbols, or samples or mel bands (`Encoding.is_signal`).
    offsets : array of float64, shape (N,)
        Start of each clip, seconds into the recording.
    rate : float
        Samples per second of the clips.
    remarks : tuple of str
        What a user should know about the file, each to follow its name.
    digest : str
        SHA-256 of the codes where it is known, as `copies.digest` gives it.
    """

    codes: NDArray[np.uint8] | NDArray[np.float32]
    offsets: NDArray[np.float64]
    rate: float
    remarks: tuple[str, ...] = ()
    digest: str = ""


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
        As `AudioFile`.
    """
    recording = AudioFile(path)
    blocks = list(recording.blocks())
    return np.concatenate(blocks) if blocks else np.empty(0), recording.rate


def normalise(block: NDArray[np.float64], whole: Range) -> NDArray[np.float64]:
    """Scale samples to [0, 1] by the range of the whole recording."""
    return (block - whole.low) / (whole.high - whole.low)


def resample(
    blocks: Blocks, rate: float, encoding: Encoding, count: int
) -> Iterator[NDArray[np.float64]]:
    """Bring a normalised signal to the rate of the encoding.

    Parameters
    ----------
    blocks : callable
        Signal in [0, 1].
    rate : float
        Its samples per second.
    encoding : Encoding
        With the target rate; None keeps `rate`.
    count : int
        Its number of samples.

    Yields
    ------
    array of float64
        Samples in [0, 1]; what the filter overshoots is clipped.
    """
    if encoding.rate is None or encoding.rate == rate:
        yield from blocks()
    elif encoding.resampler == "decimate":
        step, skip = round(stride(rate, encoding) * rate), 0
        for block in blocks():
            yield block[skip::step]
            skip = (skip - len(block)) % step
    else:
        # The filter takes the signal as 0 outside the file: centre it, or both ends start with a
        # step.
        mean = mean_of(blocks(), count)
        stream = soxr.ResampleStream(rate, encoding.rate, 1, dtype="float64", quality="VHQ")
        for block in blocks():
            yield np.clip(stream.resample_chunk(block - mean) + mean, 0, 1)
        yield np.clip(stream.resample_chunk(np.empty(0), last=True) + mean, 0, 1)


def mean_of(blocks: Iterable[NDArray[np.float64]], count: int) -> np.float64:
    """Return the mean of a signal of `count` samples, the same bits for any size of the blocks.

    As NumPy does it, the two halves are added each by itself, the first a multiple of 8 long.
    """
    pieces = Pieces(blocks)

    def total(n: int) -> np.float64:
        if n <= BLOCK:
            return np.float64(pieces.take(n).sum())
        half = n // 2 - n // 2 % 8
        first = total(half)
        return np.float64(first + total(n - half))

    return np.float64(total(count) / count)


def clips_of(
    blocks: Blocks, rate: float, encoding: Encoding, most_steps: float = np.inf
) -> Iterator[NDArray[Any]]:
    """Turn a signal into clips, a few at a time.

    Parameters
    ----------
    blocks : callable
        One whole recording; for symbols of one channel, which is normalised by its own minimum and
        maximum.
    rate : float
        Its samples per second.
    encoding : Encoding
        What to make of it; a rate of None keeps `rate`.
    most_steps : float
        Steps that the recording may give.

    Yields
    ------
    array of uint8, shape (n, T), or of float32, shape (n, T, D)
        Symbols, or what `signals_of` yields; at least one clip in all. A remainder shorter than a
        clip is dropped; without a duration the recording is one clip.

    Raises
    ------
    DataError
        If the signal is silent, constant, not finite, shorter than one clip, or gives more than
        `most_steps`.
    """
    encoding = replace(encoding, rate=encoding.rate or rate)
    whole = checked_range(blocks, rate, encoding, most_steps)
    if encoding.is_signal:
        yield from signals_of(blocks, rate, encoding, whole)
        return

    def normalised() -> Iterator[NDArray[np.float64]]:
        return (normalise(block, whole) for block in blocks())

    resampled = resample(normalised, rate, encoding, whole.frames)
    codes = (encoding.quantise(block) for block in resampled)
    yield from cut(codes, whole.frames / rate, encoding)


def encode_signal(signal: NDArray[np.float64], rate: float, encoding: Encoding) -> Prepared:
    """Turn a mono signal into clips.

    Parameters
    ----------
    signal : array of float64, shape (T,)
        One whole recording.
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
        As `clips_of`.
    """

    def blocks() -> Iterator[NDArray[np.float64]]:
        return (signal[at : at + BLOCK] for at in range(0, len(signal), BLOCK))

    return _gather(clips_of(blocks, rate, encoding), rate, encoding)


@final
class ClipsOfFile:
    """The clips of a recording, a few at a time.

    Parameters
    ----------
    path : Path
        The recording.
    encoding : Encoding
        What to make of it; a rate of None keeps that of the file.

    Raises
    ------
    DataError
        As `AudioFile`; while the clips are read, as `clips_of`.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._recording = AudioFile(path, mixed=encoding.channels == 1)
        self._encoding = encoding

    def __iter__(self) -> Iterator[NDArray[Any]]:
        recording = self._recording
        most = most_frames(recording.size)
        return clips_of(recording.blocks, recording.rate, self._encoding, most)

    @property
    def rate(self) -> float:
        """Samples per second of the clips."""
        return self._encoding.rate or self._recording.rate

    @property
    def seconds(self) -> float:
        """From the start of a clip to that of the next."""
        rate = self._recording.rate
        return _seconds(self._encoding, rate)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know about the file, once all clips are read."""
        return tuple(self._recording.remarks)


def prepare_file(path: Path, encoding: Encoding) -> Prepared:
    """Read a recording and turn it into clips; raises as `AudioFile`, `clips_of`."""
    recording = ClipsOfFile(path, encoding)
    codes = np.concatenate(list(recording))
    offsets = np.arange(len(codes), dtype=np.float64) * recording.seconds
    return Prepared(codes, offsets, recording.rate, recording.remarks)


def _gather(clips: Iterable[NDArray[Any]], rate: float, encoding: Encoding) -> Prepared:
    codes = np.concatenate(list(clips))
    offsets = np.arange(len(codes), dtype=np.float64) * _seconds(encoding, rate)
    return Prepared(codes, offsets, encoding.rate or rate)


def _seconds(encoding: Encoding, rate: float) -> float:
    """Return the seconds from one clip to the next; a whole recording has no next one."""
    n_samples = replace(encoding, rate=encoding.rate or rate).n_samples
    return 0.0 if n_samples is None else n_samples * stride(rate, encoding)


def stream_file(
    path: str | Path, encoding: Encoding
) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """Encode a recording for prediction, exactly as in training, a few clips at a time.

    Memory does not grow with the length of the recording, unless it is one clip.

    Parameters
    ----------
    path : str or Path
        File in any format that soundfile knows.
    encoding : Encoding
        The one stored with the model.

    Yields
    ------
    codes : array of uint8, shape (n, T), or of float32, shape (n, T, D)
        Symbols, 0 to levels - 1, or samples.
    offsets : array of float64, shape (n,)
        Start of each clip, seconds into the file.

    Raises
    ------
    DataError
        If the file is missing, unreadable, silent, constant or shorter than one clip.

    Warns
    -----
    UserWarning
        If something of the file is not read.
    """
    try:
        recording = AudioFile(Path(path), mixed=encoding.channels == 1)
        most = most_frames(recording.size)
        seconds = _seconds(encoding, recording.rate)
        done = 0
        for codes in clips_of(recording.blocks, recording.rate, encoding, most):
            clips = np.arange(done, done + len(codes), dtype=np.float64)
            yield codes, clips * seconds
            done += len(codes)
    except UnfitError as error:
        raise DataError(f"{path} {error.for_prediction}") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    warn(str(path), recording.remarks)


def conversion(path: str | Path, encoding: Encoding) -> str:
    """Return what a recording is converted from when it is encoded, "" where it is not."""
    recording = AudioFile(Path(path), mixed=encoding.channels == 1)
    parts = []
    if encoding.rate not in (None, recording.rate):
        parts.append(f"{recording.rate:g} Hz")
    if recording.recorded != recording.channels:
        parts.append(f"{recording.recorded} channels")
    return ", ".join(parts)


def encode_file(path: str | Path, encoding: Encoding) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Encode a whole recording for prediction, exactly as in training.

    Parameters, results and errors as of `stream_file`, for all clips at once: codes (N, T) or
    samples (N, T, D),
    offsets (N,).
    """
    codes, offsets = zip(*stream_file(path, encoding), strict=True)
    return np.concatenate(codes), np.concatenate(offsets)
