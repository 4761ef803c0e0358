"""Damaged recordings of every format: read right, or one line; never a crash, a hang, other bits.

``NNJIT_FUZZ=200 python -m pytest tests/fuzz`` tries 200 cases of each format; ``NNJIT_FUZZ_SEED``
chooses others.
"""

import os
import time

import numpy as np
import pytest
import soundfile

from nnjit.datasets import Encoding
from nnjit.datasets.audio import prepare_file
from nnjit.datasets.reader import AudioFile, most_frames
from nnjit.errors import DataError

resource = pytest.importorskip("resource")  # Windows has none
CASES = int(os.environ.get("NNJIT_FUZZ", "8"))
FRAMES = 2500
ENCODING = Encoding(levels=16, rate=8000, duration=0.05)
SECONDS = 20  # a case takes milliseconds
MEGABYTES = 500  # what all cases of a format may add to the process


def targets():
    """List each format and subtype that libsndfile writes, headerless ones aside."""
    found = []
    for form in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(form):
            unwritable = form == "RAW" or subtype in ("MPEG_LAYER_I", "MPEG_LAYER_II", "DWVW_12")
            if not unwritable and (form, subtype) != ("WAV", "MPEG_LAYER_III"):
                found.append((form, subtype))
    return found


def original(path, form, subtype):
    """Write half a second or less of noise that swells; return the bytes."""
    noise = np.random.default_rng(0).uniform(-1, 1, FRAMES) * np.linspace(0.1, 0.6, FRAMES)
    rate = 44_100 if form == "MPC2K" else 8000
    with soundfile.SoundFile(path, "w", rate, 1, subtype, format=form) as file:
        for at in range(0, FRAMES, 500):
            file.write(noise[at : at + 500])
    return path.read_bytes()


EXTREME = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1)


def mutate(data, rng):
    """Return the data with one to four changes, most of them where headers are."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(data)
        near = int(rng.integers(min(size, 96 if rng.random() < 0.5 else 600))) if size else 0
        at = near if rng.random() < 0.7 else int(rng.integers(size + 1))
        end = at + int(rng.integers(1, 300))
        match int(rng.integers(6)):
            case 0 if at < size:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                del data[int(rng.integers(size + 1)) :]
            case 2:
                width, order = int(rng.choice([2, 4, 8])), ("little", "big")[int(rng.integers(2))]
                number = int(rng.choice(EXTREME, 1)[0]) % 256**width
                data[at : at + width] = number.to_bytes(width, order)
            case 3:
                del data[at:end]
            case 4:
                source = int(rng.integers(size + 1))
                data[at:at] = data[source : source + end - at]
            case 5:
                data[at:end] = rng.bytes(end - at)
    return bytes(data)


def read(path):
    """Return samples and clips, or the error."""
    try:
        recording = AudioFile(path)
        blocks = [block for block in recording.blocks()]  # noqa: C416
        signal = np.concatenate(blocks) if blocks else np.empty(0)
        return signal, prepare_file(path, ENCODING).codes
    except DataError as error:
        return (str(error),)


def dirty(value):
    """Leave memory full of a value behind, where buffers are taken from next."""
    rooms = [np.full(n, value) for n in (64, 1000, 8192, 70_000, 1 << 17) for _ in range(4)]
    del rooms


@pytest.mark.parametrize(("form", "subtype"), targets())
def test_damaged_recordings(form, subtype, tmp_path, monkeypatch):
    path = tmp_path / f"x.{form.lower()}"
    data = original(path, form, subtype)
    seed = int(os.environ.get("NNJIT_FUZZ_SEED", "0"))
    rng = np.random.default_rng([seed, *f"{form} {subtype}".encode()])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        path.write_bytes(mutate(data, rng))
        results = []
        began = time.monotonic()
        for garbage in (0.9, -0.7):

            def filled(self, frames, always_2d, dtype, garbage=garbage):
                return np.full((frames, self.channels), garbage, dtype)

            monkeypatch.setattr(soundfile.SoundFile, "_create_empty_array", filled)
            dirty(garbage)
            results.append(read(path))
        where = f"{form} {subtype}, case {case}"
        assert time.monotonic() - began < SECONDS, where
        first, second = results
        assert len(first) == len(second), where
        if len(first) == 1:
            assert first == second, where
            assert "\n" not in first[0], where
            continue
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), where
        assert len(first[0]) <= most_frames(path.stat().st_size), where
        assert first[1].max() < ENCODING.levels, where
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{form} {subtype}: {grown:.0f} MB"


def test_the_mutations_do_something():
    rng = np.random.default_rng(0)
    data = bytes(range(256)) * 8
    assert sum(mutate(data, rng) != data for _ in range(100)) > 95
