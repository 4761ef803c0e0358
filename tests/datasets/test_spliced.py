import io

import numpy as np

from nnjit.datasets.spliced import Span, SplicedFile, replaced


def test_reads_and_seeks_as_the_bytes_it_is_made_of(rng):
    data = rng.bytes(5000)
    for _ in range(50):
        pieces, expected = [], b""
        for _ in range(int(rng.integers(5))):
            start, stop = sorted(rng.integers(0, 5001, 2).tolist())
            piece = Span(start, stop) if rng.random() < 0.6 else data[start:stop]
            pieces.append(piece)
            expected += data[start:stop]
        ours, theirs = SplicedFile(io.BytesIO(data), pieces), io.BytesIO(expected)
        for _ in range(30):
            whence = int(rng.integers(3))
            offset = int(rng.integers(-50, 4000)) if whence != 2 else -int(rng.integers(4000))
            if whence == 0 or theirs.tell() + offset < 0:
                offset = abs(offset)
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            count = int(rng.integers(3000))
            assert ours.read(count) == theirs.read(count)
            assert ours.tell() == theirs.tell()
        ours.seek(0)
        assert ours.read() == expected


def test_a_span_beyond_the_file_ends_with_it():
    file = SplicedFile(io.BytesIO(b"abc"), [Span(1, 9), b"later"])
    assert file.read() == b"bc"
    assert file.seek(-5) == 0


def test_replaced():
    data = np.arange(10, dtype=np.uint8).tobytes()
    assert SplicedFile(io.BytesIO(data), replaced(10, 3, b"xy")).read() == b"\0\1\2xy\5\6\7\10\11"
