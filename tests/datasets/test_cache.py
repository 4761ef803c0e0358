import errno
import io
import os
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from nnjit.datasets import Encoding, cache
from nnjit.datasets.audio import prepare_file
from nnjit.datasets.cache import cached_clips
from nnjit.errors import DataError


@pytest.fixture
def reads(monkeypatch):
    """Count how often a recording is really read."""
    seen = []

    def spy(path, encoding):
        seen.append(path)
        return prepare_file(path, encoding)

    monkeypatch.setattr(cache, "prepare_file", spy)
    return seen


def test_nothing_changed_is_a_hit(write, tmp_path, reads):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = cached_clips(path, Encoding(), folder)
    moved = shutil.copy(path, tmp_path / "b.wav")
    for source in (path, moved):
        again = cached_clips(source, Encoding(), folder)
        assert again.rate == first.rate
        for a, b in zip(again[:2], first[:2], strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
    assert len(reads) == 1
    assert len(list(folder.iterdir())) == 1


def test_new_content_under_the_old_name_is_a_miss(write, tmp_path, reads, rng):
    x = rng.uniform(-0.5, 0.5, 20_000)
    old = cached_clips(write("a.wav", x), Encoding(), tmp_path / "cache")
    x[-1] *= 0.5
    new = cached_clips(write("a.wav", x[::-1]), Encoding(), tmp_path / "cache")
    assert len(reads) == 2
    assert not np.array_equal(old.codes, new.codes)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 8},
        {"method": "ceil"},
        {"rate": 4000},
        {"rate": None},
        {"duration": 0.5},
        {"resampler": "decimate"},
    ],
)
def test_each_option_is_in_the_key(write, tmp_path, reads, change):
    path = write("a.wav", rate=16_000)
    cached_clips(path, Encoding(), tmp_path / "cache")
    changed = cached_clips(path, Encoding(**change), tmp_path / "cache")
    assert len(reads) == 2
    assert np.array_equal(changed.codes, prepare_file(path, Encoding(**change)).codes)


def test_new_code_is_a_miss(write, tmp_path, reads, monkeypatch):
    path = write("a.wav")
    cached_clips(path, Encoding(), tmp_path / "cache")
    monkeypatch.setattr(cache, "_code_hash", lambda: "newer")
    cached_clips(path, Encoding(), tmp_path / "cache")
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "foreign"])
def test_a_damaged_entry_is_rewritten(write, tmp_path, reads, damage):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = cached_clips(path, Encoding(), folder)
    (entry,) = folder.iterdir()
    data = bytearray(entry.read_bytes())
    if damage == "foreign":
        np.savez(entry, codes=np.zeros(3), offsets=np.zeros(3), rate=1.0)
    else:
        data[len(data) // 3] ^= 1
        damaged = {"cut": data[:-100], "flip": data, "text": b"hello", "empty": b""}[damage]
        entry.write_bytes(bytes(damaged))
    for _ in range(2):
        assert np.array_equal(cached_clips(path, Encoding(), folder).codes, first.codes)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_is_a_warning(write, tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.touch()
    path = write("a.wav")
    with pytest.warns(UserWarning, match=r"cannot be written .*dataset\.cache_dir"):
        assert len(cached_clips(path, Encoding(), blocker / "cache").codes) == 3

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert len(cached_clips(path, Encoding(), tmp_path / "cache").codes) == 3
    assert not list((tmp_path / "cache").iterdir())


def test_failures_and_a_missing_file(write, tmp_path, reads):
    silent = write("silent.wav", np.zeros(20_000))
    for _ in range(2):
        with pytest.raises(DataError, match="silent"):
            cached_clips(silent, Encoding(), tmp_path / "cache")
    with pytest.raises(DataError, match="cannot be opened"):
        cached_clips(tmp_path / "missing.wav", Encoding(), tmp_path / "cache")
    assert len(cached_clips(write("a.wav"), Encoding(), None).codes) == 3
    assert not (tmp_path / "cache").exists()


def entry_arrays(entry):
    with np.load(entry) as arrays:
        return dict(arrays)


FORGED = {
    "other number of steps": {"codes": np.zeros((3, 9_999), np.uint8)},
    "no clips": {"codes": np.zeros((0, 10_000), np.uint8), "offsets": np.zeros(0)},
    "levels beyond the encoding": {"codes": np.full((3, 10_000), 16, np.uint8)},
    "other type": {"codes": np.zeros((3, 10_000), np.int8)},
    "objects": {"codes": np.full((3, 10_000), None, object)},
    "too few offsets": {"offsets": np.zeros(2)},
    "offsets in disorder": {"offsets": np.array([0.0, 2.0, 1.0])},
    "offsets that are NaN": {"offsets": np.array([0.0, np.nan, 2.0])},
    "offsets of integers": {"offsets": np.arange(3)},
    "other rate": {"rate": np.float64(8000)},
    "rates": {"rate": np.full(3, 10_000.0)},
    "remarks of another kind": {"remarks": np.float64(1)},
    "an array is missing": {"offsets": None},
}


@pytest.mark.parametrize("what", FORGED)
def test_an_entry_that_cannot_be_right_is_made_anew(write, tmp_path, reads, what):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = cached_clips(path, Encoding(), folder)
    (entry,) = folder.iterdir()
    arrays = entry_arrays(entry) | FORGED[what]
    np.savez(entry, **{name: a for name, a in arrays.items() if a is not None})
    for _ in range(2):
        again = cached_clips(path, Encoding(), folder)
        assert np.array_equal(again.codes, first.codes)
        assert np.array_equal(again.offsets, first.offsets)
    assert len(reads) == 2
    assert entry_arrays(entry).keys() == arrays.keys()


def test_sizes_in_an_entry_are_believed_as_far_as_it_can_hold_them(write, tmp_path, reads):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = cached_clips(path, Encoding(), folder)
    (entry,) = folder.iterdir()
    arrays = entry_arrays(entry)
    huge = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**8, 10_000)}
    np.lib.format.write_array_header_1_0(huge, header)

    def claims_too_much():
        np.savez(entry, **{k: v for k, v in arrays.items() if k != "codes"})
        with zipfile.ZipFile(entry, "a") as archive:
            archive.writestr("codes.npy", huge.getvalue() + b"\0" * 1000)

    def unpacks_without_end():
        arrays["codes"] = np.zeros((20_000, 10_000), np.uint8)
        np.savez_compressed(entry, **arrays)

    for n, forge in enumerate((claims_too_much, unpacks_without_end), 2):
        forge()
        tracemalloc.start()
        assert np.array_equal(cached_clips(path, Encoding(), folder).codes, first.codes)
        assert tracemalloc.get_traced_memory()[1] < 30e6
        tracemalloc.stop()
        assert len(reads) == n


def test_what_changes_while_it_is_read_is_not_stored(write, tmp_path, monkeypatch):
    path, folder = write("a.wav"), tmp_path / "cache"

    def changes(path, encoding):
        write("a.wav", seconds=2)
        return prepare_file(path, encoding)

    monkeypatch.setattr(cache, "prepare_file", changes)
    assert len(cached_clips(path, Encoding(), folder).codes) == 2
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_entry_that_is_no_file(write, tmp_path):
    path, folder = write("a.wav"), tmp_path / "cache"
    folder.mkdir()
    os.mkfifo(folder / f"{cache.cache_key(path, Encoding())}.npz")
    assert len(cached_clips(path, Encoding(), folder).codes) == 3
