"""A signal in blocks: its range, its rate, and how it is cut into clips."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .encode import Encoding

Blocks = Callable[[], Iterable[NDArray[np.float64]]]
"""A signal that can be gone through again and again: each call yields its samples in blocks."""

_MOST_RATIO = 10_000  # between the rate of a file and of its clips; the filter grows with it
_STEPS = 1 << 20  # steps of the clips that are handed over at once


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


def checked_range(blocks: Blocks, rate: float, encoding: Encoding, most_steps: float) -> Range:
    """Return the range of a recording; UnfitError where it gives more than `most_steps`."""
    second = stride(rate, encoding)
    whole = range_of(blocks())
    if whole.frames / rate / second > most_steps:
        raise UnfitError(
            f"says that it has {rate:g} samples a second: {whole.frames:,} of them would become "
            f"{whole.frames / rate / second:,.0f} steps",
            "check its header, remove it or lower dataset.rate",
            "check its header",
        )
    return whole


def cut(
    blocks: Iterable[NDArray[Any]], seconds: float, encoding: Encoding
) -> Iterator[NDArray[Any]]:
    """Cut symbols or samples, which last so many seconds, into clips, a few at a time.

    Yields
    ------
    array, shape (n, samples) or (n, samples, channels)
        At least one clip in all; the whole, n = 1, where the encoding has no duration.

    Raises
    ------
    UnfitError
        If there are too few for a clip.
    """
    n_samples = encoding.n_samples
    if n_samples is None:
        yield _whole(blocks, encoding)[None]
        return
    pieces = Pieces(blocks)
    # Sixteen clips are one tile of the kernels.
    at_once = max(1, _STEPS // n_samples // 16) * 16 * n_samples
    found = False
    while n_clips := len(piece := pieces.take(at_once)) // n_samples:
        found = True
        yield piece[: n_clips * n_samples].reshape(n_clips, n_samples, *piece.shape[1:])
    if not found:
        raise UnfitError(
            f"lasts {seconds:.3g} s, shorter than one clip of {encoding.duration:g} s",
            "remove it or lower dataset.duration",
            "the model judges clips of that length",
        )


def _whole(blocks: Iterable[NDArray[Any]], encoding: Encoding) -> NDArray[Any]:
    """Return all symbols or samples; UnfitError if there are too few for one step."""
    parts = list(blocks)
    found = sum(map(len, parts))
    if found < encoding.frame:
        least = "sample" if encoding.frame == 1 else f"frame of {encoding.frame} samples"
        raise UnfitError(
            f"has {found} sample(s) at {encoding.rate:g} Hz, less than one {least}",
            "remove it, raise dataset.rate or lower dataset.frame",
            "the model reads one or more",
        )
    return np.concatenate(parts)


@final
class Pieces:
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
