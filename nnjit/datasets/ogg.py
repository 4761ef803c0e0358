"""Checks that an Ogg file has all its pages, and finds the recordings of a chain.

libogg skips pages that are damaged or missing, and libsndfile stops at the end of the first
recording of a chain. Format: RFC 3533.
"""

import struct
import zlib
from typing import BinaryIO

from ..errors import DataError
from .spliced import Piece, Span

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_REMEDY = "copy or download it again"


def ogg_links(file: BinaryIO, size: int) -> list[list[Piece]]:
    """Return the recordings chained in an Ogg file.

    Raises
    ------
    DataError
        If pages are damaged or missing, or a recording has no end.
    """
    starts: list[int] = []
    numbers: dict[int, int] = {}  # the number of the next page of each stream that has not ended
    heads = False  # whether the last page was the first of a stream
    at = 0
    file.seek(0)
    while at < size:
        page = _page(file)
        if page is None:
            if numbers or not starts:
                state = (
                    "ends in the middle of a page" if _is_short(file, at, size) else "is damaged"
                )
                raise DataError(f"{state} (byte {at:,} of {size:,}): {_REMEDY}")
            break  # a tag or padding after the last recording
        flags, serial, number, length = page
        if flags & _BEGINS:
            if not heads:
                _check_ended(numbers)
                starts.append(at)
                numbers.clear()
            numbers[serial] = number
        heads = bool(flags & _BEGINS)
        if numbers.get(serial) != number:
            raise DataError(f"lacks pages before byte {at:,}: {_REMEDY}")
        numbers[serial] = number + 1
        if flags & _ENDS:
            del numbers[serial]
        at += length
    _check_ended(numbers)
    return [[Span(a, b)] for a, b in zip(starts, [*starts[1:], at], strict=True)]


def _check_ended(streams: dict[int, int]) -> None:
    if streams:
        raise DataError(f"was cut short (its last Ogg page is missing): {_REMEDY}")


def _page(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Return flags, serial, number and length of the page that begins here; None if none does."""
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    magic, _, flags, _, serial, number, checksum, count = _HEADER.unpack(head)
    if magic != b"OggS":
        return None
    table = file.read(count)
    body = file.read(sum(table))
    if len(table) < count or len(body) < sum(table):
        return None
    if _checksum(head[:22] + bytes(4) + head[26:] + table + body) != checksum:
        return None
    return flags, serial, number, len(head) + count + len(body)


def _is_short(file: BinaryIO, at: int, size: int) -> bool:
    """Tell whether the page that begins at `at` is longer than the file."""
    file.seek(at)
    head = file.read(_HEADER.size)
    table = file.read(head[-1]) if len(head) == _HEADER.size else b""
    return at + len(head) + len(table) + sum(table) > size or len(head) < _HEADER.size


def _checksum(data: bytes) -> int:
    # The polynomial of zlib.crc32, with reversed bits and without complement.
    mirrored = zlib.crc32(data.translate(_MIRROR), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRROR), "big")
