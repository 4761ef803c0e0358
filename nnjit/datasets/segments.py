"""Files of prepared clips: written once, then only read, by mapping them.

A file holds the clips of some recordings one after the other, a table of them as JSON, the length
of the table and its SHA-256. What is damaged is noticed; nothing in a file is ever run.
"""

import contextlib
import hashlib
import json
import math
import mmap
import os
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, final

import numpy as np

from ..errors import DataError
from .audio import ClipsOfFile, Prepared
from .copies import digest
from .reader import open_regular

ENDING = ".clips"
_BEGIN = b"nnjit clips 1\n"
_LINE = 64  # clips begin at a multiple of so many bytes
_LENGTH, _HASH = 8, 32  # bytes behind a document
_LEFT = 86_400  # seconds after which an unfinished file belongs to nobody


@final
class DamagedError(Exception):
    """A file is not what was written."""


def seal(document: Any) -> bytes:
    """Return plain values as JSON with its length and its SHA-256 behind it."""
    text = json.dumps(document).encode("ascii")
    return text + len(text).to_bytes(_LENGTH, "little") + hashlib.sha256(text).digest()


def unseal(file: BinaryIO) -> Any:
    """Return what `seal` made the end of a file of; DamagedError where it is anything else."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _LENGTH - _HASH))
    tail = file.read()
    length = int.from_bytes(tail[:_LENGTH], "little")
    begin = size - len(tail) - length
    if len(tail) != _LENGTH + _HASH or begin < 0:
        raise DamagedError
    file.seek(begin)
    text = file.read(length)
    if hashlib.sha256(text).digest() != tail[_LENGTH:]:
        raise DamagedError
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DamagedError from None


@final
class Entry(NamedTuple):
    """Where the clips of a recording lie in a file, and what is known of them.

    Attributes
    ----------
    content : str
        SHA-256 of the recording.
    at : int
        First byte.
    shape, dtype
        Of the array of its clips.
    seconds : float
        From the start of a clip to that of the next.
    rate, remarks, digest
        See `Prepared`.
    """

    content: str
    at: int
    shape: tuple[int, ...]
    dtype: str
    seconds: float
    rate: float
    remarks: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, plain: list[Any]) -> "Entry":
        """Return an entry from JSON; DamagedError where it is none."""
        try:
            content, at, shape, dtype, seconds, rate, remarks, digest = plain
            entry = cls(
                str(content),
                int(at),
                tuple(map(int, shape)),
                np.dtype(str(dtype)).str,
                float(seconds),
                float(rate),
                tuple(map(str, remarks)),
                str(digest),
            )
        except (ArithmeticError, TypeError, ValueError):
            raise DamagedError from None
        if np.dtype(entry.dtype).hasobject or min(entry.at, *entry.shape) < 1:
            raise DamagedError
        return entry

    @property
    def size(self) -> int:
        """Bytes of the clips."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@final
class Segment:
    """One file. Its clips are mapped once they are asked for.

    Raises
    ------
    DamagedError
        Where it is not what was written, as far as that is seen without a look at the clips.
    DataError
        Where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            table = unseal(file)
        if not isinstance(table, list):
            raise DamagedError
        self.entries = [Entry.of(plain) for plain in table]
        if any(entry.at + entry.size > size for entry in self.entries):
            raise DamagedError
        self._map: mmap.mmap | None = None

    def prepared(self, entry: Entry) -> Prepared:
        """Return the clips of a recording; they are read from the file as they are used."""
        if self._map is None:
            with open_regular(self.path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        codes = np.frombuffer(self._map, entry.dtype, math.prod(entry.shape), entry.at)
        offsets = np.arange(entry.shape[0], dtype=np.float64) * entry.seconds
        codes = codes.reshape(entry.shape)
        return Prepared(codes, offsets, entry.rate, entry.remarks, entry.digest)


@final
class SegmentWriter:
    """Writes files of clips to a folder, the next one as soon as one is large.

    An OSError that it raises is about writing. What was added before stays to be finished.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    most : int
        Bytes from which on a file is large.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._file: BinaryIO | None = None
        self._path = folder
        self._entries: dict[str, Entry] = {}
        self._end = 0

    def __contains__(self, content: str) -> bool:
        return content in self._entries

    @property
    def is_large(self) -> bool:
        """Whether the file should be finished before more is added."""
        return self._end >= self._most

    def add(self, content: str, clips: ClipsOfFile) -> None:
        """Add the clips of a recording; what they raise leaves the file without them."""
        hashed, n, at = hashlib.sha256(), 0, 0
        shape: tuple[int, ...] = (0,)
        dtype: np.dtype[Any] = np.dtype(np.uint8)
        for some in clips:
            file = self._file or self._open()
            if not n:
                at = -(-self._end // _LINE) * _LINE
                file.seek(at)
            data = np.ascontiguousarray(some).data.cast("B")
            hashed.update(data)
            written = 0
            while written < len(data):  # a file without a buffer may take less than it was given
                written += file.write(data[written:])
            n, shape, dtype = n + len(some), some.shape[1:], some.dtype
        entry = Entry(
            content,
            at,
            (n, *shape),
            dtype.str,
            clips.seconds,
            clips.rate,
            clips.remarks,
            hashed.hexdigest(),
        )
        self._entries[content] = entry
        self._end = at + entry.size

    def drop_last(self) -> None:
        """Take back what was added last."""
        _, entry = self._entries.popitem()
        self._end = entry.at

    def finish(self) -> Segment | None:
        """Give the file its table and its name; return it, or None where nothing was added."""
        file, entries = self._file, list(self._entries.values())
        self._file, self._entries = None, {}
        if file is None:
            return None
        try:
            with file:
                if not entries:
                    return None
                file.truncate(self._end)
                file.seek(self._end)
                table = seal(entries)
                file.write(table)
                os.fsync(file.fileno())
            os.chmod(self._path, 0o644)
            path = self._folder / f"{hashlib.sha256(table).hexdigest()[:32]}{ENDING}"
            os.replace(self._path, path)
            return Segment(path)
        finally:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _LEFT:
                    left.unlink()
        handle, path = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        self._path, self._file = Path(path), os.fdopen(handle, "wb", buffering=0)
        self._file.write(_BEGIN)
        self._end = len(_BEGIN)
        return self._file


def is_intact(prepared: Prepared) -> bool:
    """Tell whether clips are those whose digest was noted."""
    return digest(prepared.codes) == prepared.digest


def open_segments(folder: Path) -> tuple[list[Segment], list[Path]]:
    """Return the files of clips in a folder, and those that are damaged."""
    found: list[Segment] = []
    damaged: list[Path] = []
    for path in sorted(folder.glob(f"*{ENDING}")):
        try:
            found.append(Segment(path))
        except DamagedError:
            damaged.append(path)
        except DataError:  # removed by another process, or not ours to read
            continue
    return found, damaged
