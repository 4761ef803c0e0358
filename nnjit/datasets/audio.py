"""From a recording to clips of symbols: normalise, resample, quantise, cut; block by block.

A recording is gone through three times (its range; its mean; its clips), so that memory does not
grow with its length: some 100 MB in all, and for a data set its symbols, one byte a step, twice.
Their number is at most 1,024 a byte of the file, or a million (`reader.most_frames`), whatever its
header says. The result is that of whole arrays, to the bit.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import soxr
from numpy.typing import NDArray

from ..errors import DataError
from .encode import Encoding
from .reader import BLOCK, AudioFile, most_frames, warn

Blocks = Callable[[], Iterable[NDArray[np.float64]]]
"""A signal that can be gone through again and again: each call yields its samples in blocks."""

_MOST_RATIO = 10_000  # between the rate of a file and of its clips; the filter grows with it
_STEPS = 1 << 20  # steps of the clips that are handed over at once


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
    remarks : tuple of str
        What a user should know about the file, each to follow its name.
    """

    codes: NDArray[np.uint8]
    offsets: NDArray[np.float64]
    rate: float
    remarks: tuple[str, ...] = ()


@final
class UnfitError(DataError):
    """A recording that is sound but does not fit the encoding; the remedy depends on the task."""

    def __init__(self, fact: str, remedy: str, remedy_of_prediction: str) -> None:
        super().__init__(f"{fact}: {remedy}")
        self.for_prediction = f"{fact}: {remedy_of_prediction}"


class Range(NamedTuple):
    """Extremes of a signal and the number of its samples."""

    low: float
    high: float
    frames: int


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


def range_of(blocks: Iterable[NDArray[np.float64]]) -> Range:
    """Return the range of a signal.

    Raises
    ------
    DataError
        If the signal is empty, silent, constant or not finite.
    """
    low, high, count = np.inf, -np.inf, 0
    for block in blocks:
        low, high = np.minimum(low, block.min()), np.maximum(high, block.max())
        count += len(block)
    if not count:
        raise DataError("holds no samples: replace or remove it")
    with np.errstate(invalid="ignore", over="ignore"):
        width = high - low
    if not np.isfinite(width):
        raise DataError("holds samples that are NaN or infinite: export it again")
    if width == 0:
        raise DataError("is silent or constant: replace or remove it")
    return Range(float(low), float(high), count)


def normalise(block: NDArray[np.float64], whole: Range) -> NDArray[np.float64]:
    """Scale samples to [0, 1] by the range of the whole recording."""
    return (block - whole.low) / (whole.high - whole.low)


def stride(rate: float, encoding: Encoding) -> float:
    """Return the seconds from one step of a clip to the next.

    Parameters
    ----------
    rate : float
        Samples per second of the recording.
    encoding : Encoding
        With `decimate` the stride is not always 1 / encoding.rate.

    Raises
    ------
    DataError
        If the rates lie too far apart, or `decimate` is asked to raise the rate.
    """
    if encoding.rate is None or encoding.rate == rate:
        return 1 / rate
    if not 1 / _MOST_RATIO <= rate / encoding.rate <= _MOST_RATIO:
        raise UnfitError(
            f"has a rate of {rate:g} Hz, more than {_MOST_RATIO:,} times off {encoding.rate:g} Hz",
            "remove it or change dataset.rate",
            "the model hears nothing in it",
        )
    if encoding.resampler != "decimate":
        return 1 / encoding.rate
    step = int(rate / encoding.rate)
    if step < 1:
        raise UnfitError(
            f"has a rate of {rate:g} Hz, below the {encoding.rate:g} Hz of the clips, and "
            "decimating cannot raise it",
            "set dataset.resampler=soxr",
            "the model was trained on decimated recordings of that rate or more",
        )
    return step / rate


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
    """Return the mean, to the bit that of NumPy over the whole signal of `count` samples.

    NumPy adds the two halves of an array each by itself, the first a multiple of 8 long; the same
    halves are summed here one after the other.
    """
    pieces = _Pieces(blocks)

    def total(n: int) -> np.float64:
        if n <= BLOCK:
            return np.float64(pieces.take(n).sum())
        half = n // 2 - n // 2 % 8
        first = total(half)
        return np.float64(first + total(n - half))

    return np.float64(total(count) / count)


@final
class _Pieces:
    """Blocks of any length, taken in pieces of a given length."""

    def __init__(self, blocks: Iterable[NDArray[Any]]) -> None:
        self._blocks = iter(blocks)
        self._rest: list[NDArray[Any]] = []
        self._count = 0

    def take(self, n: int) -> NDArray[Any]:
        """Return the next `n` values, or fewer where the blocks end."""
        while self._count < n and (block := next(self._blocks, None)) is not None:
            self._rest.append(block)
            self._count += len(block)
        if not self._rest:
            return np.empty(0)
        whole = self._rest[0] if len(self._rest) == 1 else np.concatenate(self._rest)
        self._rest = [whole[n:]]
        self._count = len(whole) - min(n, len(whole))
        return whole[:n]


def clips_of(
    blocks: Blocks, rate: float, encoding: Encoding, most_steps: float = np.inf
) -> Iterator[NDArray[np.uint8]]:
    """Turn a mono signal into clips of symbols, a few at a time.

    Parameters
    ----------
    blocks : callable
        One whole recording; it is normalised by its own minimum and maximum.
    rate : float
        Its samples per second.
    encoding : Encoding
        What to make of it; a rate of None keeps `rate`.
    most_steps : float
        Steps that the recording may give.

    Yields
    ------
    array of uint8, shape (n, T)
        At least one clip in all. A remainder shorter than a clip is dropped.

    Raises
    ------
    DataError
        If the signal is silent, constant, not finite, shorter than one clip, or gives more than
        `most_steps`.
    """
    encoding = replace(encoding, rate=encoding.rate or rate)
    n_steps = encoding.n_steps
    second = stride(rate, encoding)
    whole = range_of(blocks())
    if whole.frames / rate / second > most_steps:
        raise UnfitError(
            f"says that it has {rate:g} samples a second: {whole.frames:,} of them would become "
            f"{whole.frames / rate / second:,.0f} steps",
            "check its header, remove it or lower dataset.rate",
            "check its header",
        )

    def normalised() -> Iterator[NDArray[np.float64]]:
        return (normalise(block, whole) for block in blocks())

    resampled = resample(normalised, rate, encoding, whole.frames)
    codes = _Pieces(encoding.quantise(block) for block in resampled)
    # Sixteen clips are one tile of the kernels.
    at_once = max(1, _STEPS // n_steps // 16) * 16 * n_steps
    found = False
    while n_clips := len(piece := codes.take(at_once)) // n_steps:
        found = True
        yield piece[: n_clips * n_steps].reshape(n_clips, n_steps)
    if not found:
        raise UnfitError(
            f"lasts {whole.frames / rate:.3g} s, shorter than one clip of {encoding.duration:g} s",
            "remove it or lower dataset.duration",
            "the model judges clips of that length",
        )


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
        As `clips_of`.
    """

    def blocks() -> Iterator[NDArray[np.float64]]:
        return (signal[at : at + BLOCK] for at in range(0, len(signal), BLOCK))

    return _gather(clips_of(blocks, rate, encoding), rate, encoding)


def prepare_file(path: Path, encoding: Encoding) -> Prepared:
    """Read a recording and turn it into clips of symbols; raises as `AudioFile`, `clips_of`."""
    recording = AudioFile(path)
    most = most_frames(recording.size)
    clips = clips_of(recording.blocks, recording.rate, encoding, most)
    prepared = _gather(clips, recording.rate, encoding)
    return prepared._replace(remarks=tuple(recording.remarks))


def _gather(clips: Iterable[NDArray[np.uint8]], rate: float, encoding: Encoding) -> Prepared:
    codes = np.concatenate(list(clips))
    offsets = np.arange(len(codes), dtype=np.float64) * (codes.shape[1] * stride(rate, encoding))
    return Prepared(codes, offsets, encoding.rate or rate)


def stream_file(
    path: str | Path, encoding: Encoding
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Encode a recording for prediction, exactly as in training, a few clips at a time.

    Memory does not grow with the length of the recording.

    Parameters
    ----------
    path : str or Path
        File in any format that soundfile knows.
    encoding : Encoding
        The one stored with the model.

    Yields
    ------
    codes : array of uint8, shape (n, T)
        Symbols, 0 to levels - 1.
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
        recording = AudioFile(Path(path))
        most = most_frames(recording.size)
        done = 0
        for codes in clips_of(recording.blocks, recording.rate, encoding, most):
            clips = np.arange(done, done + len(codes), dtype=np.float64)
            yield codes, clips * (codes.shape[1] * stride(recording.rate, encoding))
            done += len(codes)
    except UnfitError as error:
        raise DataError(f"{path} {error.for_prediction}") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    warn(str(path), recording.remarks)


def encode_file(
    path: str | Path, encoding: Encoding
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Encode a whole recording for prediction, exactly as in training.

    Parameters, results and errors as of `stream_file`, for all clips at once: codes (N, T),
    offsets (N,).
    """
    codes, offsets = zip(*stream_file(path, encoding), strict=True)
    return np.concatenate(codes), np.concatenate(offsets)
