"""Clips of samples or mel bands: float32, every channel by itself, normalised, in frames."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from ..lazy import LazyClips
from ..ragged import AnyData, Ragged
from .blocks import Blocks, Pieces, Range, UnfitError, cut, stride
from .encode import LOG_MEL, Encoding
from .mel import log_mel

_AT_ONCE = 1 << 18  # rows whose squares are added together, in float64
_LARGEST = 1e15  # squares of samples and their sums stay well inside float32


def signals_of(
    blocks: Blocks, rate: float, encoding: Encoding, whole: Range
) -> Iterator[NDArray[np.float32]]:
    """Turn a recording into clips of samples or mel bands, a few at a time.

    With ``normalise="recording"`` each channel gets mean 0 and standard deviation 1 over the whole
    recording, or each mel band of each channel over all its clips. With ``"training"`` the
    statistics in the encoding do that; while there are none, samples and bands stay as they are.

    Parameters
    ----------
    blocks : callable
        Samples (n,) or (n, channels).
    rate : float
        Samples per second of the recording.
    encoding : Encoding
        Its rate is a number.
    whole : Range
        Of the recording.

    Yields
    ------
    array of float32, shape (n, T, width * channels)
        A step is a frame: for each of its samples or bands, all channels.

    Raises
    ------
    UnfitError
        If the recording has another number of channels, or is too short.
    DataError
        If its samples are too large for float32.
    """
    if max(abs(whole.low), abs(whole.high)) > _LARGEST:
        raise UnfitError(
            f"holds samples from {whole.low:g} to {whole.high:g}, too large for float32",
            "export it again",
            "export it again",
        )
    mean, std = _moments(_checked_channels(blocks(), encoding))
    added, divisor = np.zeros_like(mean), np.where(std > 0, std, 1.0)
    is_mel = encoding.method == LOG_MEL
    if encoding.normalise == "training" or is_mel:
        added, divisor = mean, np.ones_like(mean)

    def signals() -> Iterator[NDArray[np.float32]]:
        resampled = _resample(blocks, rate, encoding, mean)
        samples = (((block + added) / divisor).astype(np.float32) for block in resampled)
        for clips in cut(samples, whole.frames / rate, encoding):
            yield log_mel(clips, encoding) if is_mel else frames(clips, encoding)

    centre, scale = encoding.mean, encoding.std
    if is_mel and encoding.normalise == "recording":
        centre, scale = _of_recording(signals)
    for each in signals():  # from float32, as in training: the same bits
        yield standardised(each, centre, scale) if centre else each


def frames(clips: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Return clips (n, samples, channels) as frames (n, T, frame * channels)."""
    if encoding.frame == encoding.step == 1:
        return clips
    windows = np.lib.stride_tricks.sliding_window_view(clips, encoding.frame, axis=1)
    windows = windows[:, :: encoding.step].swapaxes(2, 3)  # (n, T, frame, channels)
    return windows.reshape(*windows.shape[:2], -1)


def statistics(
    signals: NDArray[np.float32] | LazyClips, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of signals (N, T, frame * channels).

    A channel that is constant has the standard deviation 1. Memory does not grow with N.
    """

    def pieces() -> Iterator[NDArray[np.float32]]:
        chunks = signals.chunks() if isinstance(signals, LazyClips) else (signals,)
        rows = Pieces(chunk.reshape(-1, channels) for chunk in chunks)
        while len(piece := rows.take(_AT_ONCE)):
            yield piece

    count = signals.size // channels
    mean = _sum(pieces(), channels) / count
    total = np.zeros(channels)
    for piece in pieces():
        total += np.square(piece - mean).sum(axis=0)
    return _plain(mean, np.sqrt(total / count))


def _of_recording(
    signals: Callable[[], Iterator[NDArray[np.float32]]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each value of a step, over all clips of a recording."""
    # A clip at a time: the same bits, however many of them come at once.
    return _plain(*_moments(clip.astype(np.float64) for clips in signals() for clip in clips))


def _plain(
    mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return statistics to divide by: what is constant has the standard deviation 1."""
    std = np.where((std <= 1e-7 * np.abs(mean)) | (std == 0), 1.0, std)  # float32 leaves so much
    return tuple(mean.tolist()), tuple(std.tolist())


def _sum(pieces: Iterable[NDArray[np.float32]], channels: int) -> NDArray[np.float64]:
    """Return the sum of each column in the order in which NumPy adds float32 up in float64.

    Of one column those are blocks of 8,192 values, each added in pairs; of more, row after row.
    """
    total = np.zeros(channels)
    for piece in pieces:
        if channels == 1:
            for at in range(0, len(piece), 8192):
                total += piece[at : at + 8192, 0].astype(np.float64).sum()
        else:
            total = np.concatenate([total[None], piece]).sum(axis=0)
    return total


def standardised(
    signals: NDArray[np.float32], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """Return signals (N, T, frame * channels) with such statistics taken out."""
    repeats = signals.shape[2] // len(mean)
    centre, scale = np.tile(np.asarray(mean), repeats), np.tile(np.asarray(std), repeats)
    out = np.empty_like(signals)
    for i, clip in enumerate(signals):  # one clip at a time in float64
        out[i] = (clip - centre) / scale
    return out


def by_training(
    signals: AnyData, train: NDArray[np.int64], channels: int
) -> tuple[AnyData, tuple[float, ...], tuple[float, ...]]:
    """Return signals with the statistics of the training set taken out, and these statistics."""
    if isinstance(signals, Ragged):
        mean, std = statistics(signals[train].values, channels)
        whole = signals.map(lambda s: standardised(s[None].astype(np.float32), mean, std)[0])
        return whole, mean, std
    if isinstance(signals, LazyClips):
        mean, std = statistics(signals.take(train), channels)
        return signals.map(lambda clips: standardised(clips, mean, std)), mean, std
    mean, std = statistics(signals[train], channels)
    return standardised(signals.astype(np.float32, copy=False), mean, std), mean, std


def _two_axes(block: NDArray[np.float64]) -> NDArray[np.float64]:
    return block[:, None] if block.ndim == 1 else block


def _checked_channels(
    blocks: Iterable[NDArray[np.float64]], encoding: Encoding
) -> Iterator[NDArray[np.float64]]:
    """Yield blocks (n, channels); UnfitError where there are others than asked for."""
    for block in map(_two_axes, blocks):
        _check_channels(block.shape[1], encoding)
        yield block


def _moments(
    blocks: Iterable[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column (Chan et al., block by block)."""
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    for block in blocks:
        if not count:
            mean, squares = np.zeros(block.shape[1]), np.zeros(block.shape[1])
        n, its_mean = len(block), block.mean(axis=0)
        delta = its_mean - mean
        squares += np.square(block - its_mean).sum(axis=0) + delta**2 * (count * n / (count + n))
        mean += delta * (n / (count + n))
        count += n
    return mean, np.sqrt(squares / count)


def _check_channels(found: int, encoding: Encoding) -> None:
    if encoding.channels not in (None, found):
        raise UnfitError(
            f"has {found} channel(s), not {encoding.channels}",
            f"remove it, set dataset.channels={found}, or 1 for their mean",
            f"the model hears {encoding.channels}",
        )


def _resample(
    blocks: Blocks, rate: float, encoding: Encoding, mean: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the signal less its mean at the rate of the encoding, (n, channels)."""
    centred = (_two_axes(block) - mean for block in blocks())
    if encoding.rate in (None, rate):
        yield from centred
    elif encoding.resampler == "decimate":
        step, skip = round(stride(rate, encoding) * rate), 0
        for block in centred:
            yield block[skip::step]
            skip = (skip - len(block)) % step
    else:
        channels = len(mean)
        stream = soxr.ResampleStream(rate, encoding.rate, channels, dtype="float64", quality="VHQ")
        for block in centred:
            yield stream.resample_chunk(np.ascontiguousarray(block)).reshape(-1, channels)
        rest = stream.resample_chunk(np.empty((0, channels)), last=True)
        yield rest.reshape(-1, channels)
