"""Clips of any length as one array."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ShapeError
from .kernels._lanes import LANES
from .layers.tiles import gathered

Array = NDArray[Any]
_WINDOW = 16  # batches among which clips are sorted by length: few steps of padding, much chance


@final
class Ragged:
    """Clips of any length, as a model takes them whose inputs have no ``n_steps``.

    Parameters
    ----------
    values : (N, T) or (N, T, D)
        Codes or signals; behind the end of a clip there may be anything.
    lengths : (N,)
        Steps of each clip, 1 to T.

    Raises
    ------
    ShapeError
        Where they do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> Ragged.of([np.array([1, 2, 3]), np.array([4])]).values.tolist()
    [[1, 2, 3], [4, 0, 0]]
    """

    def __init__(self, values: ArrayLike, lengths: ArrayLike) -> None:
        self.values, self.lengths = np.asarray(values), np.asarray(lengths)
        shape = self.values.shape
        if len(shape) < 2 or self.lengths.shape != shape[:1] or self.lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"clips of any length are (N, T) or (N, T, D) with N whole numbers as lengths, got "
                f"{shape} with {self.lengths.dtype} {self.lengths.shape}"
            )
        for n in np.flatnonzero((self.lengths < 1) | (self.lengths > shape[1]))[:1]:
            raise ShapeError(f"clip {n} has {self.lengths[n]} steps: give it 1 to {shape[1]}")
        outside = np.arange(shape[1]) >= self.lengths[:, None]
        if np.any(self.values[outside] != 0):
            self.values = self.values.copy()
            self.values[outside] = 0

    @classmethod
    def of(cls, clips: Sequence[ArrayLike]) -> "Ragged":
        """Return some clips, each (T,) or (T, D) with a T of its own."""
        arrays = [np.asarray(clip) for clip in clips]
        for n, clip in enumerate(arrays):
            if clip.ndim == 0 or len(clip) == 0 or clip.shape[1:] != arrays[0].shape[1:]:
                raise ShapeError(
                    f"clip {n} is {clip.shape}, clip 0 is {arrays[0].shape}: "
                    "give each (T,) or (T, D), with one D and 1 step or more"
                )
        if not arrays:
            raise ShapeError("there is no clip")
        lengths = np.array([len(clip) for clip in arrays])
        shape = (len(arrays), lengths.max(), *arrays[0].shape[1:])
        values = np.zeros(shape, np.result_type(*arrays))
        for row, clip in zip(values, arrays, strict=True):
            row[: len(clip)] = clip
        return cls(values, lengths)

    def __len__(self) -> int:
        return len(self.values)

    def in_batches(self, order: Array, batch_size: int, rng: np.random.Generator) -> Array:
        """Return a random order with clips of similar lengths in each batch.

        What is left over after the last whole batch stays at the end.
        """
        n, window = len(order) // batch_size, _WINDOW * batch_size
        whole = order[: n * batch_size].copy()
        for begin in range(0, len(whole), window):
            part = whole[begin : begin + window]
            part[:] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = whole.reshape(n, batch_size)[rng.permutation(n)]
        return np.concatenate([batches.reshape(-1), order[n * batch_size :]])

    def gathered(self, rows: Array) -> tuple[Array, Array]:
        """Return some clips in tiles, cut behind the longest, and their lengths (tiles, LANES)."""
        lengths = self.lengths[rows]
        clips = np.ascontiguousarray(self.values[rows][:, : lengths.max()])
        padded = np.concatenate([lengths, np.full(-len(rows) % LANES, lengths[0])])
        return gathered(clips, np.arange(len(rows))), padded.reshape(-1, LANES)
