"""Clips that lie in several arrays, in memory or mapped from files, and are read when asked for."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]
_AT_ONCE = 1 << 24  # bytes of clips that are read together


@final
class LazyClips:
    """Clips as one array (N, ...), of which only what is asked for is read.

    Parameters
    ----------
    parts : sequence of arrays, each (n, ...)
        Together they hold the clips, of one dtype and one shape.

    Examples
    --------
    >>> import numpy as np
    >>> clips = LazyClips([np.zeros((2, 3)), np.ones((4, 3))])
    >>> clips.shape, clips.take([5, 0])[:].tolist()
    ((6, 3), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._rows = np.arange(self._ends[-1])
        self._clip, self.dtype = parts[0].shape[1:], parts[0].dtype
        self._functions: tuple[Callable[[Array], Array], ...] = ()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return len(self), *self._clip

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take in memory."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, index: Any) -> Array:
        """Return clip `index`, or those of a slice or an array of positions, in memory."""
        if isinstance(index, int | np.integer):
            row: Array = self._read(np.array([self._rows[index]]))[0]
            return row
        return self._read(self._rows[index])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("clips that are read when asked for have no array without a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def take(self, indices: ArrayLike) -> Self:
        """Return the clips at `indices` (M,), in that order; nothing is read."""
        return self._with(_rows=self._rows[np.asarray(indices, dtype=np.int64)])

    def map(self, function: Callable[[Array], Array]) -> Self:
        """Return what a function makes of the clips (n, ...), of each by itself, when it is read.

        It keeps their shape.
        """
        return self._with(_functions=(*self._functions, function))

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the clips in another dtype; each is converted when it is read."""
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self
        return self.map(lambda clips: clips.astype(wanted))._with(dtype=wanted)

    def chunks(self, any_order: bool = False) -> Iterator[Array]:
        """Yield all clips, a few at a time; in any order, as they lie in the files."""
        rows = np.sort(self._rows) if any_order else self._rows
        n = max(1, _AT_ONCE // max(1, math.prod(self._clip) * self.dtype.itemsize))
        for at in range(0, len(rows), n):
            yield self._read(rows[at : at + n])

    def _with(self, **changed: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | changed)
        return other

    def _read(self, rows: NDArray[np.int64]) -> Array:
        which = np.searchsorted(self._ends, rows, side="right")
        first = self._parts[0]
        clips = np.empty((len(rows), *self._clip), first.dtype)
        behind = (rows - self._ends[which]).tolist()  # from the end of each part: negative
        for i, (part, row) in enumerate(zip(which.tolist(), behind, strict=True)):
            clips[i] = self._parts[part][row]
        for function in self._functions:
            clips = function(clips)
        return clips
