"""Counts the frames of an MPEG audio file (MP3), whose header may have a wrong count or none.

Without a count in the first frame, libsndfile estimates the length from the first bit rate and
stops there; with a wrong count it stops at that. So the frames are counted here, and the count is
written to the header that the decoder reads. (The decoder then removes its delay of 529 samples.)
"""

import struct
from typing import BinaryIO, NamedTuple

from ..errors import DataError
from .spliced import Piece, Span, replaced

_SIDE = {(3, 3): 17, (3, 0): 32, (2, 3): 9, (2, 0): 17}  # bytes: MPEG 1 or not, mono or not
# fmt: off
_KBITS = {  # (MPEG 1 or not, layer): rows of the standard, from index 1
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# fmt: on
_BLOCK = 1 << 16
_LOOKED_FOR = 1 << 20  # the search for the next frame ends after so many bytes
_RATES = (44_100, 48_000, 32_000)


class Frame(NamedTuple):
    """The header of a frame, four bytes; `kind` is the same for all frames of a recording."""

    length: int
    samples: int
    layer: int
    mpeg1: bool
    mono: bool
    kind: tuple[int, int, int]


def is_mpeg(head: bytes) -> bool:
    """Tell whether a file with this beginning may be MPEG audio."""
    return head.startswith(b"ID3") or _frame(head[:4]) is not None


def mpeg_pieces(file: BinaryIO, size: int) -> tuple[list[Piece] | None, int, tuple[str, ...]]:
    """Return the pieces to decode, the least number of samples to expect, and warnings.

    Raises
    ------
    DataError
        If there are fewer frames than the first one announces.
    """
    start = _behind_tags(file, 0)
    padding = _bytes(file, start, _BLOCK)  # some tags are longer than their header says
    start += len(padding) - len(padding.lstrip(b"\0"))
    first = _frame(_bytes(file, start, 4))
    if first is None or not _is_followed(file, start, first, size):
        return None, 0, ()
    count, lost, cut = _count(file, start, first, size)
    remarks = []
    if lost:
        remarks.append(f"holds {lost:,} bytes that are no frames of MPEG audio")
    if cut:
        remarks.append("ends in the middle of a frame: it may have been cut short")
    if first.layer != 3:
        return None, max(0, count - 2) * first.samples, tuple(remarks)
    side = _SIDE[3 if first.mpeg1 else 2, 3 if first.mono else 0]
    at, announced = _announced(file, start + 4, side)
    if announced is None:
        pieces: list[Piece] = [_counted(file, start, first, side, count), Span(start, size)]
        return pieces, 0, tuple(remarks)
    count -= 1  # the frame with the announcement has no samples
    if count + 1 < announced:  # some encoders count that frame too
        missing = f"{announced - count:,} of {announced:,} frames"
        if announced > 1.01 * count:
            raise DataError(
                f"ends before its header says so ({missing} are missing): copy or download it again"
            )
        remarks.append(f"lacks {missing} that its header announces")
    if at is None:  # announced in a form that the decoder does not read
        pieces = [_counted(file, start, first, side, count), Span(start + first.length, size)]
        return pieces, 0, tuple(remarks)
    if count == announced:
        return None, 0, tuple(remarks)
    return replaced(size, at, struct.pack(">I", count)), 0, tuple(remarks)


def _frame(head: bytes) -> Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, rate_code = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate_index in (0, 15) or rate_code == 3:
        return None
    mpeg1 = version == 3
    rate = _RATES[rate_code] // {3: 1, 2: 2, 0: 4}[version]
    bits = _KBITS[mpeg1, layer][rate_index - 1] * 1000
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 1152 if mpeg1 or layer == 2 else 576
    length = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate
    length += padding if layer != 1 else 0
    return Frame(length, samples, layer, mpeg1, head[3] >> 6 == 3, (version, layer, rate_code))


def _bytes(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _behind_tags(file: BinaryIO, at: int) -> int:
    """Skip ID3v2 tags."""
    while (head := _bytes(file, at, 10)).startswith(b"ID3") and len(head) == 10:
        a, b, c, d = head[6:]
        at += 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)
    return at


def _is_followed(file: BinaryIO, at: int, frame: Frame, size: int) -> bool:
    """Tell whether a frame is followed by another of its kind, a tag or the end of the file."""
    after = at + frame.length
    if after >= size:
        return True
    head = _bytes(file, after, 8)
    following = _frame(head[:4])
    tag = head.startswith((b"ID3", b"TAG", b"APETAGEX"))
    return tag or (following is not None and following.kind == frame.kind)


def _count(file: BinaryIO, at: int, first: Frame, size: int) -> tuple[int, int, bool]:
    """Return the number of complete frames, of bytes outside frames, and whether one is cut."""
    count = lost = 0
    while at < size:
        frame = _frame(_bytes(file, at, 4))
        if frame is not None and frame.kind == first.kind:
            if at + frame.length > size:
                return count, lost, True
            count, at = count + 1, at + frame.length
            continue
        behind = _behind_tags(file, at)
        if behind == at and _bytes(file, at, 8).startswith((b"TAG", b"APETAGEX")):
            break
        if behind == at:
            behind = _next(file, at + 1, first, size)
            padding = not _bytes(file, at, min(behind - at, 1 << 20)).strip(b"\0")
            lost += 0 if padding else behind - at
        at = behind
    return count, lost, False


def _next(file: BinaryIO, at: int, first: Frame, size: int) -> int:
    """Find the next frame of the same kind as the first."""
    for _ in range(_LOOKED_FOR // _BLOCK):
        block = _bytes(file, at, _BLOCK)
        k = block.find(b"\xff")
        while 0 <= k < len(block) - 3 or (k >= 0 and at + len(block) >= size):
            frame = _frame(block[k : k + 4])
            same = frame is not None and frame.kind == first.kind
            if frame is not None and same and _is_followed(file, at + k, frame, size):
                return at + k
            k = block.find(b"\xff", k + 1)
        at += max(1, len(block) - 3)
    return size


def _announced(file: BinaryIO, at: int, side: int) -> tuple[int | None, int | None]:
    """Return the position of the count of frames in the first frame, and the count.

    The header is that of Xing and LAME, or of Fraunhofer; libsndfile does not read the latter, so
    its position is None.
    """
    xing = _bytes(file, at + side, 12)
    if len(xing) == 12 and xing[:4] in (b"Xing", b"Info") and xing[7] & 1:
        return at + side + 8, int.from_bytes(xing[8:])
    fraunhofer = _bytes(file, at + 32, 18)
    if len(fraunhofer) == 18 and fraunhofer[:4] == b"VBRI":
        return None, int.from_bytes(fraunhofer[14:])
    return None, None


def _counted(file: BinaryIO, start: int, first: Frame, side: int, count: int) -> bytes:
    """Return a frame that announces the number of frames."""
    head = bytearray(_bytes(file, start, 4))
    head[1] |= 1  # no checksum
    for index in range(1, 15):
        head[2] = index << 4 | head[2] & 0x0C
        frame = _frame(bytes(head))
        if frame is not None and frame.length >= 4 + side + 12:
            body = bytes(side) + b"Info" + struct.pack(">II", 1, count)
            return (bytes(head) + body).ljust(frame.length, b"\0")
    return b""
