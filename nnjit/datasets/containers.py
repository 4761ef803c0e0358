"""Compares the length in the header of an audio file with the size of the file.

libsndfile reads a truncated file as if it were complete, stops at the end that a wrong header
gives, or reads bytes after the samples as samples. A row of `_LAYOUTS` finds, for one container,
the position of the samples and the number of their bytes. IRCAM, PAF, PVF, XI, SD2 and headerless
files do not contain their length: a cut is detected only if it divides a frame (`reader`), or if a
second recording follows.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from ..errors import DataError
from .mpeg import is_mpeg, mpeg_pieces
from .ogg import ogg_links
from .spliced import Piece, Span, replaced

_HEAD = 1 << 16  # bytes in which a header is looked for
_SLACK = 0x1_0000  # programs that stream a WAV write a size this close to 2^31 or 2^32


class Content(NamedTuple):
    """The parts of a file to decode.

    Attributes
    ----------
    parts : list of (list of pieces or None)
        Recordings, one after another; None is the unchanged file.
    frames : int
        Frames that the header announces, for a check after decoding; 0 if it announces none.
    remarks : tuple of str
        Warnings for the user, each to follow the name of the file.
    """

    parts: list[list[Piece] | None]
    frames: int = 0
    remarks: tuple[str, ...] = ()


class Extent(NamedTuple):
    """The position of the samples according to the header.

    Attributes
    ----------
    start : int
        Their first byte.
    length : int or None
        Their number of bytes; None if the header leaves it open.
    field : (int, str, int) or None
        Position and struct format of the length in the header, and the bytes other than samples
        that it includes; None if libsndfile ignores it.
    chunks : str
        struct format of the length of chunks that may follow; "" if none may.
    """

    start: int
    length: int | None
    field: tuple[int, str, int] | None = None
    chunks: str = ""


class Header:
    """Random access to the fields of a file; struct.error beyond its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.head = self.bytes(0, _HEAD)

    def bytes(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes."""
        self.file.seek(max(0, at))
        return self.file.read(count)

    def number(self, at: int, form: str) -> int:
        """Return the integer at a position."""
        return int(struct.unpack(form, self.bytes(at, struct.calcsize(form)))[0])


def content(file: BinaryIO, size: int) -> Content:
    """Compare the header of a file with its size.

    Parameters
    ----------
    file : binary file
        Opened recording; its position is not preserved.
    size : int
        Its size in bytes.

    Raises
    ------
    DataError
        If the file is shorter than its header says, or its structure is damaged.
    """
    header = Header(file, size)
    if header.head.startswith(b"OggS"):
        links = ogg_links(file, size)
        return Content([*links] if len(links) > 1 else [None])
    if header.head.startswith(b"fLaC"):
        return _flac(header)
    if is_mpeg(header.head):
        pieces, frames, remarks = mpeg_pieces(file, size)
        return Content([pieces], frames, remarks)
    for magic, layout in _LAYOUTS.items():
        if re.match(magic, header.head, re.DOTALL):
            try:
                extent = layout(header)
            except (struct.error, ValueError, LookupError, ArithmeticError):
                extent = None  # libsndfile will raise an error
            return Content([None]) if extent is None else _compare(header, extent)
    for magic, length in _UNTOLD.items():
        if re.match(magic, header.head, re.DOTALL):
            _check_single(header, header.head[:length])
    return Content([None])


def _compare(header: Header, extent: Extent) -> Content:
    size, available = header.size, header.size - extent.start
    length, end = extent.length, extent.start + (extent.length or 0)
    if length is None or (length == 0 and not _follows(header, end, extent.chunks)):
        return Content([_with_length(header, extent, available) if available > 0 else None])
    if length > available:
        missing = f"{length - available:,} of {length:,} bytes"
        if length > 1.01 * available:
            raise DataError(
                f"ends before its header says so ({missing} are missing): copy or download it again"
            )
        return Content([None], remarks=(f"lacks {missing} that its header announces",))
    if end == size or (extent.field and _follows(header, end, extent.chunks)):
        return Content([None])
    window: list[Piece] = [Span(0, end)]
    if size - end <= 16 or _follows(header, end, extent.chunks):
        return Content([window])
    remark = f"has {size - end:,} bytes after the end that its header gives: they are not read"
    return Content([window], remarks=(remark,))


def _with_length(header: Header, extent: Extent, length: int) -> list[Piece] | None:
    """Return the file with the actual length of its samples written to its header."""
    if extent.field is None:
        return None
    at, form, more = extent.field
    most = (1 << 8 * struct.calcsize(form)) - 1
    return replaced(header.size, at, struct.pack(form, min(length + more, most)))


def _check_single(header: Header, head: bytes) -> None:
    """Raise DataError if another recording follows the first: a second header like it."""
    for at in range(1, header.size, _HEAD):
        index = header.bytes(at, _HEAD + len(head) - 1).find(head)
        if index >= 0:
            raise DataError(
                f"holds another recording behind the first, from byte {at + index:,}: split it"
            )


def _follows(header: Header, at: int, form: str) -> bool:
    """Tell whether only chunks, tags or padding follow after a position."""
    if not header.bytes(at, _HEAD).strip(b"\0"):
        return True
    # Chunks begin at even positions, but some programs omit the padding byte.
    return bool(form) and any(_are_chunks(header, at + k, form) for k in (at & 1, 0))


def _are_chunks(header: Header, at: int, form: str) -> bool:
    even = form != ">q"
    while header.size - at >= 12 and header.bytes(at, 3) != b"TAG":
        if not header.bytes(at, _HEAD).strip(b"\0"):
            return True
        name = header.bytes(at, 4)
        if not all(32 <= byte < 127 for byte in name) or name in (b"RIFF", b"FORM", b"caff"):
            return False
        length = header.number(at + 4, form)
        if length < 0:
            return False
        at += 4 + struct.calcsize(form) + length + (length & 1 if even else 0)
    return at <= header.size + 1


def _flac(header: Header) -> Content:
    # If the header says that the length is unknown, libsndfile decodes the whole file.
    at = 8 + 13
    if header.size < at + 5:
        return Content([None])  # libsndfile will raise an error
    low = header.number(at, ">B") & 0xF0
    frames = (header.number(at, ">B") & 0x0F) << 32 | header.number(at + 1, ">I")
    tag = 128 if header.bytes(header.size - 128, 3) == b"TAG" else 0
    return Content([replaced(header.size - tag, at, bytes([low]) + bytes(4))], frames)


def _open_ended(length: int, bits: int = 32) -> bool:
    return abs(length - (1 << (bits - 1))) <= _SLACK or (1 << bits) - length <= _SLACK


def _chunks(header: Header, at: int, form: str, even: bool) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and length of chunks."""
    width = struct.calcsize(form)
    for _ in range(10_000):
        if at >= header.size:
            return
        name, length = header.bytes(at, 4), header.number(at + 4, form)
        at += 4 + width
        yield name, at, length
        at += max(0, length) + (length & 1 if even else 0)


def _riff(header: Header) -> Extent | None:
    form = ">I" if header.head.startswith(b"RIFX") else "<I"
    long = None
    for name, at, length in _chunks(header, 12, form, even=True):
        if name == b"ds64":
            long = at + 8
        if name == b"data" and long is not None and length == 0xFFFF_FFFF:
            real = header.number(long, "<Q")
            open_ended = _open_ended(real, 64)
            return Extent(at, None if open_ended else real, (long, "<Q", 0), form)
        if name == b"data":
            exact = None if at + length > header.size and _open_ended(length) else length
            return Extent(at, exact, (at - 4, form, 0), form)
    return None


def _aiff(header: Header) -> Extent | None:
    for name, at, length in _chunks(header, 12, ">I", even=True):
        if name == b"SSND":
            exact = None if length < 8 or _open_ended(length) else length - 8
            return Extent(at + 8, exact, (at - 4, ">I", 8), ">I")
    return None


def _svx(header: Header) -> Extent | None:
    for name, at, length in _chunks(header, 12, ">I", even=True):
        if name == b"BODY":
            return Extent(at, None if _open_ended(length) else length, None, ">I")
    return None


def _caf(header: Header) -> Extent | None:
    for name, at, length in _chunks(header, 8, ">q", even=False):
        if name == b"data":
            return Extent(at + 4, None if length < 4 else length - 4, (at - 8, ">q", 4), ">q")
    return None


def _w64(header: Header) -> Extent | None:
    at = 40
    while at < header.size:
        length = header.number(at + 16, "<Q")
        if header.bytes(at, 4) == b"data":
            exact = None if length < 24 or _open_ended(length, 64) else length - 24
            return Extent(at + 24, exact)
        at += max(24, (length + 7) & ~7)
    return None


def _au(header: Header) -> Extent:
    order = "<" if header.head.startswith(b"dns.") else ">"
    start, length = (header.number(at, order + "I") for at in (4, 8))
    return Extent(start, None if _open_ended(length) else length, (8, order + "I", 0))


def _avr(header: Header) -> Extent:
    channels = 2 if header.number(12, ">H") else 1
    return Extent(128, header.number(26, ">I") * channels * header.number(14, ">H") // 8)


def _mpc2k(header: Header) -> Extent:
    return Extent(42, header.number(30, "<I") * 2 * (header.number(21, "<B") + 1))


def _wve(header: Header) -> Extent:
    return Extent(32, header.number(18, ">I"))


def _sds(header: Header) -> Extent:
    low, middle, high = header.head[10:13]
    samples, width = low | middle << 7 | high << 14, -(-header.head[6] // 7)
    return Extent(21, -(-samples // (120 // width)) * 127)


def _nist(header: Header) -> Extent | None:
    text = header.head[:1024]
    fields = dict(re.findall(rb"(\w+) -i (\d+)", text))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if names[0] not in fields:
        return None
    count, channels, width = (int(fields.get(name, b"1")) for name in names)
    return Extent(int(text[8:16]), count * channels * width)


def _voc(header: Header) -> Extent | None:
    at = header.number(20, "<H")
    while (kind := header.number(at, "<B")) != 0:
        length = header.number(at + 1, "<H") | header.number(at + 3, "<B") << 16
        if kind in (1, 9):
            fields = 2 if kind == 1 else 12
            start, length = at + 4 + fields, length - fields
            # Kind 1 includes the terminating byte of the file, which libsndfile needs.
            ended = kind == 1 and header.size > start + length
            return Extent(start, length + ended)
        at += 4 + length
    return None


def _mat4(header: Header) -> Extent | None:
    at = header.head.index(b"wavedata\0") - 20
    form = "<I" if header.number(at, "<I") < 1000 else ">I"
    kind, rows, columns = (header.number(at + k, form) for k in (0, 4, 8))
    width = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}[kind % 1000 // 10]
    return Extent(at + 29, rows * columns * width)


def _mat5(header: Header) -> Extent:
    at = header.head.index(b"wavedata") + 8
    order = "<" if header.head[126:128] == b"IM" else ">"
    return Extent(at + 8, header.number(at + 4, order + "I"))


# Containers without their length, and the number of bytes of their header that identify them.
_UNTOLD = {
    rb"\x64\xa3|.\xa3\x64": 16,  # IRCAM: magic, rate, channels, encoding
    rb" paf|fap ": 28,
    rb"PVF1\n": 11,
    rb"Extended Instrument:": 21,
}

_LAYOUTS: dict[bytes, Callable[[Header], Extent | None]] = {
    rb"(RIFF|RIFX|RF64)....WAVE": _riff,
    rb"FORM....AIF[FC]": _aiff,
    rb"FORM....(8SVX|16SV)": _svx,
    rb"caff": _caf,
    rb"riff\x2e\x91\xcf\x11": _w64,
    rb"\.snd|dns\.": _au,
    rb"2BIT": _avr,
    rb"\x01\x04": _mpc2k,
    rb"ALawSoundFile\*\*": _wve,
    rb"\xf0\x7e.\x01": _sds,
    rb"NIST_1A": _nist,
    rb"Creative Voice File": _voc,
    rb"\0\0(\0\0|\x03\xe8).{16,256}wavedata\0": _mat4,
    rb"MATLAB 5\.0": _mat5,
}
