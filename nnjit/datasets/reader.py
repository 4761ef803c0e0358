"""Recordings of any format, block by block, and never more than the file can hold."""

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..errors import DataError
from .containers import content
from .spliced import Piece, SplicedFile

BLOCK = 1 << 20  # samples; mixing down block by block keeps only one channel in memory
# Digital silence takes the least space: 343 frames a byte in FLAC, 300 in Vorbis. What says that
# it holds more than this is made up.
FRAMES_PER_BYTE = 1024
_SMALL = 1 << 20  # frames that any file may hold
_KEPT = 1 << 23  # frames kept in memory (64 MB) where a recording is gone through several times
# Formats without a length: bytes before the samples, as libsndfile writes and expects them.
_UNTOLD = {"IRCAM": rb"(?s).{1024}", "PAF": rb"(?s).{2048}", "PVF": rb"PVF1\n\d+ \d+ \d+\n"}
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}


def most_frames(size: int) -> int:
    """Return how many frames, or steps after resampling, a file of `size` bytes may give."""
    return max(_SMALL, FRAMES_PER_BYTE * size)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises
    ------
    DataError
        If it is missing, no regular file (a pipe would be waited for), or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or the like"
            raise DataError(f"cannot be read as audio (it is {kind}): name a file")
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot be opened ({reason}): check that it is there") from None
    except ValueError as error:  # a name with a NUL
        raise DataError(f"cannot be opened ({error}): rename it") from None


class _Sequential(soundfile.SoundFile):
    """A file that is read from its beginning to where the decoder ends.

    soundfile seeks after each read. Formats that cannot seek refuse that, MP3 decodes otherwise
    after it, and where the length is unknown nothing is read.
    """

    def seekable(self) -> bool:
        return False


@final
class AudioFile:
    """An audio file that can be gone through again and again.

    Parameters
    ----------
    path : Path
        File in any format that soundfile knows.
    mixed : bool
        Average the channels; False keeps them.

    Attributes
    ----------
    channels : int
        Number of channels of what `blocks` yields.
    recorded : int
        Number of channels of the file.
    rate : float
        Samples per second.
    size : int
        Bytes of the file.
    remarks : list of str
        What a user should know, each to follow the name of the file.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged, or ends before its header says so.
    """

    def __init__(self, path: Path, mixed: bool = True) -> None:
        self._path, self._mixed = path, mixed
        self._kept: list[NDArray[np.float64]] | None = None
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            self._content = content(file, self.size)
            self.remarks = list(self._content.remarks)
            rates, channels, recorded = set(), set(), set()
            for part in self._content.parts:
                with self._open(file, part) as sound:
                    rates.add(float(sound.samplerate))
                    channels.add(1 if mixed else sound.channels)
                    recorded.add(sound.channels)
                    self._check_whole_frames(file, sound)
        if len(rates) > 1:
            raise DataError(
                f"holds recordings of {', '.join(f'{r:g}' for r in sorted(rates))} Hz, one after "
                "another: split it"
            )
        if len(channels) > 1:
            raise DataError(
                f"holds recordings of {' and '.join(map(str, sorted(channels)))} channels, one "
                "after another: split it"
            )
        (self.rate,), (self.channels,), self.recorded = rates, channels, max(recorded)

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Yield the samples, nominally in [-1, 1]: the mean over the channels, or each of them.

        The first time through, a short recording is kept in memory; a long one is decoded anew.

        Yields
        ------
        array of float64, shape (n,) where channels are mixed, else (n, channels)
            n from 1 to 2^20.

        Raises
        ------
        DataError
            If the file is damaged, or ends before its header says so.
        """
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[NDArray[np.float64]] = []
        count = 0
        with open_regular(self._path) as file:
            for part in self._content.parts:
                for block in self._decode(file, part):
                    count += len(block)
                    if count > most_frames(self.size):
                        raise DataError(
                            f"has more than {FRAMES_PER_BYTE:,} samples a byte, which no recording "
                            "has: replace or remove it"
                        )
                    if count * self.channels <= _KEPT:
                        kept.append(block)
                    else:
                        kept.clear()
                    yield block
        if count * self.channels <= _KEPT:
            self._kept = kept

    def _open(self, file: BinaryIO, part: list[Piece] | None) -> soundfile.SoundFile:
        # The path as bytes: not every name is valid Unicode. Its ending tells headerless formats.
        name = str(self._path) if os.name == "nt" else os.fsencode(self._path)
        try:
            return _Sequential(name if part is None else SplicedFile(file, part))
        except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
            # soundfile answers a headerless .raw file with a TypeError.
            raise _unreadable(error) from None

    def _decode(self, file: BinaryIO, part: list[Piece] | None) -> Iterator[NDArray[np.float64]]:
        """Yield the blocks of one of the recordings in the file."""
        count, announced = 0, self._content.frames
        with self._open(file, part) as sound:
            if not announced and sound.frames < np.iinfo(np.int64).max:
                announced = sound.frames
            most = max(1, BLOCK // sound.channels)
            while True:
                # Up to what is announced first: what may follow is not always sound.
                left = announced - count
                try:
                    block = sound.read(min(most, left) if left > 0 else most, always_2d=True)
                except (soundfile.SoundFileError, OSError, ValueError) as error:
                    if left > 0 or not count:
                        raise _unreadable(error) from None
                    self._remark("holds something behind the recording that cannot be read")
                    break
                if not len(block):
                    break
                count += len(block)
                # Channels of inf and -inf average to NaN, which is told when it is encoded.
                with np.errstate(invalid="ignore", over="ignore"):
                    yielded = block.mean(axis=1) if self._mixed else block
                yield yielded
        if count < announced:
            raise DataError("ends before its header says so: copy or download it again")

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _check_whole_frames(self, file: BinaryIO, sound: soundfile.SoundFile) -> None:
        """Notice what little can be noticed where a format does not tell its length."""
        if sound.format not in _UNTOLD or sound.subtype not in _WIDTHS:
            return
        file.seek(0)
        head = re.match(_UNTOLD[sound.format], file.read(2048))
        frame = _WIDTHS[sound.subtype] * sound.channels
        if (sound.format, sound.subtype) == ("PAF", "PCM_24"):
            frame = 32 * sound.channels  # ten samples
        if head and (self.size - head.end()) % frame:
            raise DataError("ends in the middle of a sample: copy or download it again")


def _unreadable(error: Exception) -> DataError:
    # LibsndfileError puts the name of the file before its text.
    reason = str(getattr(error, "error_string", error))
    if isinstance(error, TypeError):
        reason = "it has no header that tells rate and sample format"
    reason = reason.splitlines()[0].rstrip(".") if reason else type(error).__name__
    return DataError(f"cannot be read as audio ({reason}): replace or remove it")


def warn(name: str, remarks: list[str] | tuple[str, ...], stacklevel: int = 2) -> None:
    """Warn of what a user should know about a recording."""
    for remark in remarks:
        warnings.warn(f"{name} {remark}", stacklevel=stacklevel + 1)
