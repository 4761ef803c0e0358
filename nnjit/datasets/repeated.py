"""Strings of which many are equal, such as the recording of each clip."""

from collections.abc import Iterator, Sequence
from typing import Any, final, overload

import numpy as np
from numpy.typing import NDArray


@final
class Repeated(Sequence[str]):
    """A sequence of strings that takes 4 bytes for each place.

    Parameters
    ----------
    strings : sequence of str
        The strings.
    which : array of integers, shape (N,)
        Which of them stands at each place.

    Examples
    --------
    >>> Repeated(["a", "b"], np.array([0, 0, 1])) == ("a", "a", "b")
    True
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, strings: Sequence[str], which: NDArray[Any]) -> None:
        self._strings, self._which = strings, which.astype(np.int32, copy=False)

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Repeated": ...
    def __getitem__(self, index: int | slice) -> "str | Repeated":
        """Return the string at a place, or those of a slice."""
        if isinstance(index, slice):
            return Repeated(self._strings, self._which[index])
        found: str = self._strings[self._which[index]]
        return found

    def __iter__(self) -> Iterator[str]:
        return (self._strings[i] for i in self._which)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return repr(tuple(self))

    def take(self, indices: NDArray[np.int64]) -> "Repeated":
        """Return the strings at some places, in that order."""
        return Repeated(self._strings, self._which[indices])
