"""Clips of any length, one behind the other in one array."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ShapeError
from .kernels._lanes import LANES
from .layers.tiles import gathered
from .lazy import LazyClips

Array = NDArray[Any]
# Batches within which clips are sorted by length: little padding, and the order stays random.
_WINDOW = 16


@final
class Ragged:
    """Clips of any length, as a model takes them whose inputs have no ``n_steps``.

    Memory is that of their steps: a clip is padded only inside a batch.

    Parameters
    ----------
    values : (M,) or (M, D)
        Codes or signals of all clips, one after another.
    lengths : (N,)
        Steps of each clip, 1 or more; M in all.

    Raises
    ------
    ShapeError
        If shapes or lengths do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> clips = Ragged([1, 2, 3, 4], [3, 1])
    >>> clips[0], len(clips)
    (array([1, 2, 3]), 2)
    >>> clips[np.array([1, 0])].values.tolist()
    [4, 1, 2, 3]
    """

    def __init__(self, values: ArrayLike, lengths: ArrayLike) -> None:
        self.values, self.lengths = np.asarray(values), np.asarray(lengths)
        shape = self.values.shape
        if (
            len(shape) not in (1, 2)
            or self.lengths.ndim != 1
            or self.lengths.dtype.kind not in "iu"
        ):
            raise ShapeError(
                f"clips of any length are values (M,) or (M, D) with lengths (N,), whole numbers, "
                f"got {shape} with {self.lengths.dtype} {self.lengths.shape}: "
                "for padded arrays there is Ragged.padded"
            )
        _check_lengths(self.lengths)
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        if len(self) and self._ends[-1] != shape[0]:
            raise ShapeError(
                f"the lengths add up to {self._ends[-1]} steps, there are {shape[0]}: "
                "for padded arrays there is Ragged.padded"
            )

    @classmethod
    def of(cls, clips: Sequence[ArrayLike]) -> "Ragged":
        """Return clips, each (T,) or (T, D), where T may differ from clip to clip."""
        arrays = [np.asarray(clip) for clip in clips]
        for n, clip in enumerate(arrays):
            if clip.ndim == 0 or len(clip) == 0 or clip.shape[1:] != arrays[0].shape[1:]:
                raise ShapeError(
                    f"clip {n} is {clip.shape}, clip 0 is {arrays[0].shape}: "
                    "give each (T,) or (T, D), with one D and 1 step or more"
                )
        if not arrays:
            raise ShapeError("there is no clip")
        return cls(np.concatenate(arrays), [len(clip) for clip in arrays])

    @classmethod
    def padded(cls, values: ArrayLike, lengths: ArrayLike) -> "Ragged":
        """Return the clips of a padded array.

        Parameters
        ----------
        values : (N, T) or (N, T, D)
            Behind the end of a clip there may be anything.
        lengths : (N,)
            Steps of each clip, 1 to T.
        """
        values, lengths = np.asarray(values), np.asarray(lengths)
        if values.ndim < 2 or lengths.shape != values.shape[:1] or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"padded clips are (N, T) or (N, T, D) with N whole numbers as lengths, got "
                f"{values.shape} with {lengths.dtype} {lengths.shape}"
            )
        _check_lengths(lengths, values.shape[1])
        return cls(values[np.arange(values.shape[1]) < lengths[:, None]], lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take in memory."""
        return self.values.nbytes

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, at: int | np.integer) -> Array: ...
    @overload
    def __getitem__(self, at: Array | slice) -> "Ragged": ...
    def __getitem__(self, at: int | np.integer | Array | slice) -> "Array | Ragged":
        """Return one clip, or the clips at some positions, in that order."""
        if isinstance(at, int | np.integer):
            length, end = int(self.lengths[at]), int(self._ends[at])
            return self.values[end - length : end]
        rows = np.arange(len(self))[at]
        if not len(rows):
            return Ragged(self.values[:0], self.lengths[:0])
        return Ragged(np.concatenate([self[n] for n in rows]), self.lengths[rows])

    def __iter__(self) -> Iterator[Array]:
        return (self[n] for n in range(len(self)))

    def map(self, function: Callable[[Array], Array]) -> "Ragged":
        """Return the clips after a function of each, which keeps its number of steps."""
        return Ragged(np.concatenate([function(clip) for clip in self]), self.lengths)

    def in_batches(self, order: Array, batch_size: int, rng: np.random.Generator) -> Array:
        """Return a random order with clips of similar lengths in each batch.

        The clips after the last full batch stay at the end.
        """
        n, window = len(order) // batch_size, _WINDOW * batch_size
        in_full_batches = order[: n * batch_size].copy()
        for begin in range(0, len(in_full_batches), window):
            rows = in_full_batches[begin : begin + window]
            rows[:] = rows[np.argsort(self.lengths[rows], kind="stable")]
        batches = in_full_batches.reshape(n, batch_size)[rng.permutation(n)]
        return np.concatenate([batches.reshape(-1), order[n * batch_size :]])

    def by_length(self, most_clips: int, most_values: int) -> Iterator[Array]:
        """Yield the positions of all clips, shortest first, some at a time.

        A piece is padded to no more than so many values, or is one tile of clips.
        """
        order, at = np.argsort(self.lengths, kind="stable"), 0
        width = math.prod(self.values.shape[1:])
        while at < len(order):
            n = most_clips
            while n > LANES and n * width * self.lengths[order[at : at + n][-1]] > most_values:
                n -= LANES
            yield order[at : at + n]
            at += n

    def gathered(self, rows: Array) -> tuple[Array, Array]:
        """Return clips in tiles, padded with 0, and their lengths (tiles, LANES)."""
        lengths = self.lengths[rows]
        clips = np.zeros((len(rows), lengths.max(), *self.values.shape[1:]), self.values.dtype)
        for clip, n in zip(clips, rows, strict=True):
            clip[: self.lengths[n]] = self[n]
        padded = np.concatenate([lengths, np.full(-len(rows) % LANES, lengths[0])])
        return gathered(clips, np.arange(len(rows))), padded.reshape(-1, LANES)


def _check_lengths(lengths: Array, most: int | None = None) -> None:
    """Raise ShapeError where a clip has no step, or more than there may be."""
    for n in np.flatnonzero((lengths < 1) | (lengths > (most or np.inf)))[:1]:
        wanted = f"1 to {most}" if most else "1 or more"
        raise ShapeError(f"clip {n} has {lengths[n]} steps: give it {wanted}")


Data = Array | Ragged  # clips of one length, or of any
AnyData = Data | LazyClips  # or such as are read when asked for
