import errno
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from nnjit.datasets import Encoding, cache, copies, room
from nnjit.datasets.audio import ClipsOfFile, prepare_file
from nnjit.datasets.notes import Notes, State
from nnjit.datasets.segments import ENDING, Segment, SegmentWriter, seal
from nnjit.errors import DataError


def cached_clips(path, encoding, folder):
    """Return the clips of one recording, or raise what is wrong with it."""
    (found,) = cache.prepare([path], encoding, folder)
    if isinstance(found, DataError):
        raise found
    return found


def files_of_clips(folder):
    return sorted(folder.rglob(f"*{ENDING}"))


@pytest.fixture
def reads(monkeypatch):
    """Count how often a recording is really read."""
    seen, begin = [], ClipsOfFile.__init__

    def spy(self, path, encoding):
        seen.append(path)
        begin(self, path, encoding)

    monkeypatch.setattr(ClipsOfFile, "__init__", spy)
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
    assert len(files_of_clips(folder)) == 1


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


@pytest.mark.parametrize("damage", ["cut", "symbol", "table", "text", "empty"])
def test_what_is_damaged_is_told_and_made_anew(write, tmp_path, reads, damage):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = np.array(cached_clips(path, Encoding(), folder).codes)
    (file,) = files_of_clips(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 3 if damage == "symbol" else -60] ^= 1
    damaged = {"cut": data[:-100], "text": b"hello", "empty": b""}.get(damage, bytes(data))
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match=rf"{file.name} are damaged, and are prepared anew"):
        again = cached_clips(path, Encoding(), folder)
    assert np.array_equal(again.codes, first)
    assert np.array_equal(cached_clips(path, Encoding(), folder).codes, first)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_is_a_warning(write, tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.touch()
    path = write("a.wav")
    with pytest.warns(UserWarning, match=r"cannot be written .*dataset\.cache_dir"):
        assert len(cached_clips(path, Encoding(), blocker / "cache").codes) == 3

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("segments.SegmentWriter.add", "segments.os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"nnjit.datasets.{place}", full)
            with pytest.warns(UserWarning, match="No space left"):
                assert len(cached_clips(path, Encoding(), tmp_path / "cache").codes) == 3
        assert not files_of_clips(tmp_path / "cache")


def test_failures_and_a_missing_file(write, tmp_path, reads):
    silent = write("silent.wav", np.zeros(20_000))
    for _ in range(2):
        with pytest.raises(DataError, match="silent"):
            cached_clips(silent, Encoding(), tmp_path / "cache")
    with pytest.raises(DataError, match="cannot be opened"):
        cached_clips(tmp_path / "missing.wav", Encoding(), tmp_path / "cache")
    assert len(cached_clips(write("a.wav"), Encoding(), None).codes) == 3
    assert not (tmp_path / "cache").exists()


FORGED = {
    "other number of steps": {"shape": (3, 9_999)},
    "no clips": {"shape": (0, 10_000)},
    "more than there is": {"shape": (10**8, 10_000)},
    "a shape of text": {"shape": "3"},
    "other type": {"dtype": "|i1"},
    "objects": {"dtype": "|O"},
    "no type": {"dtype": "pickle"},
    "before the file": {"at": -64},
    "behind the file": {"at": 1 << 40},
    "clips that stand still": {"seconds": 0.0},
    "seconds that are NaN": {"seconds": float("nan")},
    "other rate": {"rate": 8000.0},
    "rates": {"rate": [10_000.0]},
    "remarks of another kind": {"remarks": 1},
    "another digest": {"digest": "0" * 64},
    "levels beyond the encoding": {"digest": None},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_table_that_cannot_be_right_is_made_anew(write, tmp_path, reads, what):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = np.array(cached_clips(path, Encoding(), folder).codes)
    (file,) = files_of_clips(folder)
    (entry,) = Segment(file).entries
    data = bytearray(file.read_bytes()[: entry.at + entry.size])
    changed = FORGED[what]
    if what.startswith("levels"):
        data[entry.at] = 16
        codes = np.frombuffer(data, np.uint8, entry.size, entry.at).reshape(entry.shape)
        changed = {"digest": copies.digest(codes)}
    file.write_bytes(bytes(data) + seal([entry._replace(**changed)]))
    tracemalloc.start()
    with pytest.warns(UserWarning, match="are damaged"):
        assert np.array_equal(cached_clips(path, Encoding(), folder).codes, first)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert len(reads) == 2


def test_a_whole_recording_is_one_clip(write, tmp_path):
    path, folder, encoding = write("a.wav"), tmp_path / "cache", Encoding(duration=None)
    first = np.array(cached_clips(path, encoding, folder).codes)
    assert first.shape == (1, 30_000)
    assert np.array_equal(cached_clips(path, encoding, folder).codes, first)
    (file,) = files_of_clips(folder)
    (entry,) = Segment(file).entries
    forged = seal([entry._replace(shape=(2, 15_000), seconds=1.0)])
    file.write_bytes(file.read_bytes()[: entry.at + entry.size] + forged)
    with pytest.warns(UserWarning, match="are damaged"):
        assert np.array_equal(cached_clips(path, encoding, folder).codes, first)


@pytest.mark.parametrize("table", [{}, [1], [[]], [[None] * 8], "text", 5, [["a"] * 8]])
def test_a_table_of_another_form(write, tmp_path, table):
    path, folder = write("a.wav"), tmp_path / "cache"
    first = np.array(cached_clips(path, Encoding(), folder).codes)
    (file,) = files_of_clips(folder)
    file.write_bytes(seal(table))
    with pytest.warns(UserWarning, match="are damaged"):
        assert np.array_equal(cached_clips(path, Encoding(), folder).codes, first)


def test_what_changes_while_it_is_read_is_not_stored(write, tmp_path, monkeypatch):
    path, folder = write("a.wav"), tmp_path / "cache"
    add = SegmentWriter.add

    def changes(self, content, clips):
        add(self, content, clips)
        write("a.wav", seconds=2)

    monkeypatch.setattr(SegmentWriter, "add", changes)
    assert len(cached_clips(path, Encoding(), folder).codes) == 2
    assert not files_of_clips(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_files_of_clips(write, tmp_path):
    path, folder = write("a.wav"), tmp_path / "cache"
    inside = cache.folder_of(folder, Encoding())
    inside.mkdir(parents=True)
    os.mkfifo(inside / f"a{ENDING}")
    assert len(cached_clips(path, Encoding(), folder).codes) == 3


@pytest.fixture
def settled(monkeypatch):
    """Have files count as settled at once: their times are those of the test."""
    monkeypatch.setattr("nnjit.datasets.notes._SETTLED", -(10**18))


def test_a_later_start_reads_no_recording_and_no_clip(write, tmp_path, monkeypatch, settled, reads):
    paths, folder = [write(f"{name}.wav") for name in "abc"], tmp_path / "cache"
    first = [np.array(found.codes) for found in cache.prepare(paths, Encoding(), folder)]
    assert len(reads) == 3

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(cache, "content_of", never)
    monkeypatch.setattr(cache, "is_intact", never)
    looks, state_of = [], State.of
    monkeypatch.setattr(State, "of", lambda path: looks.append(path) or state_of(path))
    again = cache.prepare(paths, Encoding(), folder)
    for found, codes in zip(again, first, strict=True):
        assert np.array_equal(found.codes, codes)
    assert sorted(looks) == sorted([*paths, *files_of_clips(folder)])  # one each
    assert len(reads) == 3


def test_new_content_is_seen_where_the_old_one_was_noted(write, tmp_path, settled, reads):
    path, folder = write("a.wav"), tmp_path / "cache"
    cached_clips(path, Encoding(), folder)
    times = path.stat()
    write("a.wav", np.random.default_rng(5).uniform(-0.5, 0.5, 24_000))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy with its times has it
    assert path.stat().st_size == times.st_size
    expected = prepare_file(path, Encoding()).codes
    assert np.array_equal(cached_clips(path, Encoding(), folder).codes, expected)


def test_a_file_written_just_now_is_not_noted(write, tmp_path):
    path = write("a.wav")
    notes = Notes(tmp_path / "notes")
    notes.put(path, State.of(path), "text")
    old = State.of(path)._replace(mtime=0, ctime=0)
    notes.put(tmp_path / "old.wav", old, "old")
    notes.save()
    notes = Notes(tmp_path / "notes")
    assert notes.get(path, State.of(path)) is None
    assert notes.get(tmp_path / "old.wav", old) == "old"
    assert notes.get(tmp_path / "old.wav", old._replace(inode=1)) is None


@pytest.mark.parametrize("content", [b"", b"hello", seal([1]), seal({"a": 1}), seal({})[:-1]])
def test_notes_that_are_damaged_count_as_nothing(tmp_path, content):
    (tmp_path / "notes").write_bytes(content)
    assert Notes(tmp_path / "notes").get(tmp_path / "a", State(1, 1, 1, 1)) is None


def test_what_was_prepared_stays_when_the_work_is_interrupted(write, tmp_path, monkeypatch, reads):
    paths, folder = [write(f"{name}.wav") for name in "abc"], tmp_path / "cache"

    def interrupted(self):
        if len(reads) == 3:
            raise KeyboardInterrupt
        return clips(self)

    clips = ClipsOfFile.__iter__
    with monkeypatch.context() as patch:
        patch.setattr(ClipsOfFile, "__iter__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.prepare(paths, Encoding(), folder)
    reads.clear()
    found = cache.prepare(paths, Encoding(), folder)
    assert reads == paths[2:]
    for path, prepared in zip(paths, found, strict=True):
        assert np.array_equal(prepared.codes, prepare_file(path, Encoding()).codes)
    assert not list(folder.rglob("*.tmp"))


def test_files_of_clips_are_finished_when_they_are_large(write, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_SEGMENT", 50_000)
    paths, folder = [write(f"{i}.wav") for i in range(5)], tmp_path / "cache"
    for _ in range(2):
        for path, found in zip(paths, cache.prepare(paths, Encoding(), folder), strict=True):
            assert np.array_equal(found.codes, prepare_file(path, Encoding()).codes)
    assert len(files_of_clips(folder)) == 3  # of 30,000 bytes a recording: 2, 2 and 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rate": None},
        {"method": "raw"},
        {"method": "raw", "frame": 4, "channels": None},
        {"duration": None},
    ],
    ids=str,
)
def test_the_estimate_is_close(write, tmp_path, options):
    paths = [write(f"{i}.wav", seconds=3 + i) for i in range(40)]
    encoding, sizes = Encoding(**options), [path.stat().st_size for path in paths]
    exact = sum(prepare_file(path, encoding).codes.nbytes for path in paths)
    assert abs(room.estimate(paths, sizes, encoding) - exact) < 0.1 * exact
    text = tmp_path / "a.txt"
    text.write_text("hello")
    assert room.estimate([text, tmp_path / "none"], [5, 5], encoding) == 10


def test_what_long_work_takes_is_told_before(write, tmp_path, monkeypatch, capsys, settled):
    paths, folder = [write(f"{i}.wav") for i in range(3)], tmp_path / "cache"
    monkeypatch.setattr(cache, "_LONG", 100_000)
    monkeypatch.setattr(room, "free", lambda _: 10**9)
    cache.prepare(paths, Encoding(), folder, "music")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == (
        "music: 3 recordings (0.000144 GB) are new or changed; their clips take about 9e-05 GB in "
        f"{folder}, where 1 GB are free"
    )
    assert told[-1] == "music: 0.1 of 0.1 MB"
    assert len(told) == 4
    cache.prepare(paths, Encoding(), folder, "music")
    assert not capsys.readouterr().err


def test_clips_without_room_are_held_in_memory_or_refused(write, tmp_path, monkeypatch, capsys):
    paths, folder = [write(f"{i}.wav") for i in range(3)], tmp_path / "cache"
    monkeypatch.setattr(cache, "_LONG", 100_000)
    monkeypatch.setattr(room, "free", lambda _: 1000)
    with pytest.warns(UserWarning, match="cannot be written .*e-06 GB free"):
        found = cache.prepare(paths, Encoding(), folder)
    assert [len(prepared.codes) for prepared in found] == [3, 3, 3]
    monkeypatch.setattr(room.memory, "total", lambda: 100_000)
    with pytest.raises(DataError, match=r"too much for memory.*set dataset\.cache_dir"):
        cache.prepare(paths, Encoding(), folder)
    assert not folder.exists()
