"""A read-only file made of pieces: spans of another file, and bytes that replace some of them."""

import io
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO, NamedTuple, final


class Span(NamedTuple):
    """Bytes `start` to `stop` of the underlying file."""

    start: int
    stop: int


Piece = Span | bytes


def replaced(size: int, at: int, new: bytes) -> list[Piece]:
    """Return the pieces of a file of `size` bytes with the bytes at `at` replaced by `new`."""
    return [Span(0, at), new, Span(at + len(new), size)]


@final
class SplicedFile(io.RawIOBase):
    """Pieces one after another, as one seekable file.

    Parameters
    ----------
    file : binary file
        The underlying file; its position is not preserved.
    pieces : sequence of Span or bytes
        In order. A span that goes beyond the file ends with it.
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._file = file
        self._pieces = list(pieces)
        lengths = [p.stop - p.start if isinstance(p, Span) else len(p) for p in self._pieces]
        self._ends = list(accumulate(lengths))
        self._position = 0

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: its position can be set."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; one before the beginning is the beginning."""
        end = self._ends[-1] if self._ends else 0
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill the buffer with the next bytes; return their number, fewer at the end."""
        view = memoryview(buffer).cast("B")
        filled = 0
        for piece, end in zip(self._pieces, self._ends, strict=True):
            if filled == len(view):
                break
            left = end - self._position
            if left <= 0:
                continue
            count = min(left, len(view) - filled)
            data = self._take(piece, left, count)
            view[filled : filled + len(data)] = data
            filled += len(data)
            self._position += len(data)
            if len(data) < count:  # the file has become shorter
                break
        return filled

    def _take(self, piece: Piece, left: int, count: int) -> bytes:
        """Return up to `count` bytes of a piece of which `left` have not been read."""
        if not isinstance(piece, Span):
            return piece[len(piece) - left :][:count]
        self._file.seek(piece.stop - left)
        return self._file.read(count)
