"""Prepared clips on disk, found by all that shaped them: recording, encoding, code and libraries.

The folder of an encoding holds files of clips (`segments`). Recordings go by the SHA-256 of what is
in them. It is noted for each file in which state it had which, so that a file which nobody wrote to
is not read again, and of each file of clips that it was checked.
"""

import hashlib
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
import soundfile
import soxr

from ..errors import DataError
from ..runtime import signals
from ..runtime.text import say
from . import (
    audio,
    blocks,
    containers,
    encode,
    mel,
    mpeg,
    ogg,
    raw,
    reader,
    room,
    segments,
    spliced,
)
from .audio import ClipsOfFile, Prepared, prepare_file
from .encode import LOG_MEL, Encoding
from .notes import Notes, State
from .progress import Report, shown
from .reader import open_regular
from .segments import Entry, Segment, SegmentWriter, is_intact, open_segments

_LONG = 1 << 26  # bytes of recordings: to prepare more takes so long that it is told
_SEGMENT = 1 << 26  # bytes of a file of clips, unless there would be too many of them
_MOST_SEGMENTS = 512  # a process may have some 1,000 files open


def prepare(
    paths: Sequence[Path], encoding: Encoding, folder: Path | None, name: str = "recordings"
) -> list[Prepared | DataError]:
    """Return the clips of recordings, prepared where the cache does not hold them.

    Clips from the cache are mapped: memory holds what is used of them. What was prepared stays,
    whatever ends the work.

    Parameters
    ----------
    paths : sequence of Path
        The recordings.
    encoding : Encoding
        How to encode them.
    folder : Path or None
        Where the cache lives; None does without, and holds all clips in memory.
    name : str
        What messages call them.

    Returns
    -------
    list of Prepared or DataError
        For each recording its clips, or why it cannot be read or encoded. Failures are never
        cached.

    Raises
    ------
    DataError
        If there is no room for the clips, neither on disk nor in memory.

    Warns
    -----
    UserWarning
        If something in the cache is damaged, and made anew, or the cache cannot be written.
    """
    if folder is None:
        return [_in_memory(path, encoding) for path in paths]
    work = _Cache(folder, encoding, paths, name)
    work.fill()
    return [work.result(path) for path in paths]


def _in_memory(path: Path, encoding: Encoding) -> Prepared | DataError:
    try:
        return prepare_file(path, encoding)
    except DataError as error:
        return error


def content_of(path: Path) -> str:
    """Return the SHA-256 of what is in a file; DataError if it cannot be opened."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_of(folder: Path, encoding: Encoding) -> Path:
    """Return where in a cache the clips of an encoding lie, as this code makes them."""
    parts = [encoding.to_dict(), _code_hash()]
    if encoding.method == LOG_MEL:
        parts += mel.versions()
    text = json.dumps(parts, sort_keys=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _code_hash() -> str:
    digest = hashlib.sha256()
    modules = (audio, blocks, containers, encode, mel, mpeg, ogg, raw, reader, segments, spliced)
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    versions = (
        np.__version__,
        soxr.__version__,
        soxr.__libsoxr_version__,
        soundfile.__version__,
        soundfile.__libsndfile_version__,
    )
    digest.update(repr(versions).encode())
    return digest.hexdigest()


@final
class NoRoomError(DataError):
    """Clips have no room, neither on disk nor in memory."""


@final
class _Cache:
    """The cache at work on some recordings."""

    def __init__(self, folder: Path, encoding: Encoding, paths: Sequence[Path], name: str) -> None:
        self._folder, self._encoding, self._name = folder_of(folder, encoding), encoding, name
        self._paths = paths
        self._states = {path: State.of(path) for path in paths}
        self._contents = Notes(folder / f"{_where(paths)}.contents")
        self._checked = Notes(self._folder / "checked")
        self._content: dict[Path, str] = {}
        self._place: dict[str, tuple[Segment, Entry]] = {}
        self._mapped: dict[str, Prepared] = {}
        self._others: dict[Path, Prepared | DataError] = {}  # failed, or in memory
        self._writer: SegmentWriter | None = None
        self._written: list[tuple[Path, State | None]] = []
        self._needed, self._is_told = 0, False

    def fill(self) -> None:
        """Prepare what is not there yet."""
        self._open()
        for path, state in self._states.items():
            if state and (content := self._contents.get(path, state)):
                self._content[path] = content
        todo = [path for path in self._paths if self._content.get(path) not in self._place]
        sizes = [state.size if (state := self._states[path]) else 0 for path in todo]
        if long := sum(sizes) >= _LONG:
            self._needed = room.estimate(todo, sizes, self._encoding)
        most = max(_SEGMENT, self._needed // _MOST_SEGMENTS)
        self._writer = SegmentWriter(self._folder, most)
        progress: AbstractContextManager[Report] = nullcontext(_no_report)
        if long:
            self._announce(len(todo), sum(sizes))
            progress = shown(self._name, sum(sizes))
        try:
            with progress as report:
                done = 0
                for path, size in zip(todo, sizes, strict=True):
                    self._prepare(path)
                    report(done := done + size)
        finally:
            self._finish()
            self._keep_notes()

    def result(self, path: Path) -> Prepared | DataError:
        """Return the clips of a recording, or why there are none."""
        content = self._content.get(path, "")
        if path in self._others:
            return self._others[path]
        if content not in self._place:  # it was prepared, but could not be kept
            return _in_memory(path, self._encoding)
        if content not in self._mapped:
            segment, entry = self._place[content]
            self._mapped[content] = segment.prepared(entry)
        return self._mapped[content]

    def _open(self) -> None:
        """Find what is there; what is damaged is told, and removed to be made anew."""
        found, damaged = open_segments(self._folder)
        for segment in found:
            state = State.of(segment.path)
            if state is None or not self._is_sound(segment, state):
                damaged.append(segment.path)
                continue
            self._place |= {entry.content: (segment, entry) for entry in segment.entries}
        for path in damaged:
            warnings.warn(f"the clips in {path} are damaged, and are prepared anew", stacklevel=6)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._tell_unwritable(str(error.strerror))

    def _is_sound(self, segment: Segment, state: State) -> bool:
        """Tell whether a file of clips is what was written; once it is known, that is noted."""
        if self._checked.get(segment.path, state) is not None:
            return True
        every = map(segment.prepared, segment.entries)
        if not all(
            _is_sound(prepared, self._encoding) and is_intact(prepared) for prepared in every
        ):
            return False
        self._checked.put(segment.path, state, "sound")
        return True

    def _announce(self, count: int, size: int) -> None:
        """Say what there is to do and what it takes; see that there is room."""
        free = room.free(self._folder)
        say(
            f"{self._name}: {count} recordings ({size / 1e9:.3g} GB) are new or changed; "
            f"their clips take about {self._needed / 1e9:.2g} GB in {self._folder.parent}, where "
            f"{free / 1e9:.3g} GB are free",
            sys.stderr,
        )
        if self._needed > free - _SEGMENT and not self._place:  # what is there may be theirs
            self._do_without(f"there are {free / 1e9:.3g} GB free")

    def _prepare(self, path: Path) -> None:
        """Have the clips of a recording in the cache, or else in memory, or know why not."""
        try:
            if path not in self._content:
                self._content[path] = content_of(path)
                if state := self._states[path]:
                    self._contents.put(path, state, self._content[path])
            content = self._content[path]
            if content in self._place or (self._writer and content in self._writer):
                return
            if self._writer is None:
                self._others[path] = prepare_file(path, self._encoding)
            else:
                self._write(path, content, self._writer)
        except NoRoomError:
            raise
        except DataError as error:
            self._others[path] = error

    def _write(self, path: Path, content: str, writer: SegmentWriter) -> None:
        clips = ClipsOfFile(path, self._encoding)
        try:
            writer.add(content, clips)
        except OSError as error:
            self._do_without(str(error.strerror))
            self._others[path] = prepare_file(path, self._encoding)
            return
        if State.of(path) != self._states[path]:  # the content may have been another
            writer.drop_last()
            self._others[path] = prepare_file(path, self._encoding)
        if writer.is_large:
            self._finish()
            if self._needed and (free := room.free(self._folder)) < 2 * _SEGMENT:
                self._do_without(f"there are {free / 1e9:.2g} GB free")

    def _do_without(self, reason: str) -> None:
        """Go on in memory if that is large enough."""
        self._finish()
        self._writer = None
        if not room.fits_memory(self._needed):
            raise NoRoomError(
                f"the clips of {self._name} take about {self._needed / 1e9:.2g} GB, too much for "
                f"memory, and the cache in {self._folder.parent} cannot hold them ({reason}): free "
                "some space there, or set dataset.cache_dir to a folder on another disk"
            )
        self._tell_unwritable(reason)

    def _finish(self) -> None:
        """Finish the file that is being written; what it holds can be mapped then."""
        try:
            with signals.held():  # what was prepared stays
                segment = self._writer.finish() if self._writer else None
        except OSError as error:
            self._tell_unwritable(str(error.strerror))
            return
        if segment:
            self._place |= {entry.content: (segment, entry) for entry in segment.entries}
            self._written.append((segment.path, State.of(segment.path)))

    def _keep_notes(self) -> None:
        for path, state in self._written:
            if state is not None:
                self._checked.put(path, state, "sound")
        try:
            with signals.held():
                self._contents.save()
                self._checked.save()
        except OSError as error:
            self._tell_unwritable(str(error.strerror))

    def _tell_unwritable(self, reason: str) -> None:
        # A cache that cannot be written costs time, not results.
        if self._is_told:
            return
        self._is_told = True
        warnings.warn(
            f"the cache in {self._folder.parent} cannot be written ({reason}): "
            "set dataset.cache_dir to a writable folder, or to null",
            stacklevel=6,
        )


def _no_report(done: int) -> None:
    """Show nothing."""


def _where(paths: Sequence[Path]) -> str:
    """Return a name for the folder that recordings lie in."""
    folders = sorted({os.path.dirname(os.path.abspath(path)) for path in paths})
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # several drives, or nothing
        common = "".join(folders[:1])
    return hashlib.sha256(os.fsencode(common)).hexdigest()[:32]


def _is_sound(prepared: Prepared, encoding: Encoding) -> bool:
    """Tell whether clips can come from a recording under this encoding."""
    codes, offsets, rate, *_ = prepared
    if not 0 < rate < math.inf or encoding.rate not in (None, rate):
        return False
    if codes.ndim < 2 or 0 in codes.shape:
        return False
    n_steps = replace(encoding, rate=rate).n_steps
    if not (len(codes) == 1 if n_steps is None else codes.shape[1] == n_steps):
        return False
    if encoding.is_signal:
        width = codes.shape[2] if codes.ndim == 3 else 0
        wanted = encoding.width * (encoding.channels or max(1, width // encoding.width))
        sound = codes.dtype == np.float32 and width == wanted and bool(np.isfinite(codes).all())
    else:
        sound = codes.dtype == np.uint8 and codes.ndim == 2 and int(codes.max()) < encoding.levels
    return (
        sound
        and offsets.dtype == np.float64
        and offsets.shape == (len(codes),)
        and bool(np.isfinite(offsets).all())
        and offsets[0] == 0
        and bool((np.diff(offsets) > 0).all())
    )
