import shutil

import numpy as np
import pytest
import soundfile

from nnjit.datasets import Folder
from nnjit.datasets.base import Dataset, Recording
from nnjit.datasets.copies import find, join


def folder(root, **options):
    return Folder(root, **{"n_clips": None, "rate": 4000, "cache_dir": None} | options)


def sides(splits, *files):
    """Return the names of the sets that hold clips of these files."""
    return {name for name, clips in splits.sets().items() if set(files) & set(clips.files)}


def copy(path, other):
    shutil.copy(path, other)


def link(path, other):
    other.symlink_to(path)


def with_tags(path, other):
    signal, rate = soundfile.read(path)
    with soundfile.SoundFile(other, "w", rate, 1) as file:
        file.title = "another title"
        file.write(signal)


def as_flac(path, other):
    signal, rate = soundfile.read(path, dtype="int16")
    soundfile.write(other.with_suffix(".flac"), signal, rate)


@pytest.mark.parametrize("again", [copy, link, with_tags, as_flac])
def test_a_recording_under_two_names_is_one_track(two_authors, write, again):
    for track in range(3, 6):
        write(f"root/a/{track}.wav")
    again(two_authors / "a" / "0.wav", two_authors / "a" / "9.wav")
    other = next(path.name for path in (two_authors / "a").glob("9.*"))
    for seed in range(8):
        told = f"^a/0.wav = a/{other}: the same recording each"
        with pytest.warns(UserWarning, match=told) as caught:
            splits = folder(two_authors).load(seed)
        assert len(caught) == 1
        assert len(sides(splits, "a/0.wav", f"a/{other}")) == 1
        assert "no track is in more than one set" in splits.describe()


def test_a_recording_in_two_classes_is_told(two_authors, write):
    for author in "ab":
        for track in range(3, 6):
            write(f"root/{author}/{track}.wav")
    shutil.copy(two_authors / "a" / "0.wav", two_authors / "b" / "copy.wav")
    for seed in range(8):
        told = (
            "^a/0.wav = b/copy.wav: the same recording in several classes, kept as one track; "
            "remove it from those where it is wrong$"
        )
        with pytest.warns(UserWarning, match=told):
            splits = folder(two_authors).load(seed)
        assert len(sides(splits, "a/0.wav", "b/copy.wav")) == 1


def test_many_copies_are_told_in_one_line(two_authors):
    for track in range(3):
        for n in range(4):
            for author in "ab":
                path = two_authors / author / f"{track}.wav"
                shutil.copy(path, path.with_name(f"{track}-{n}.wav"))
    with pytest.warns(
        UserWarning, match=r"^a/0-0.wav = a/0-1.wav = .* and 3 more: the same"
    ) as all_:
        folder(two_authors).load(0)
    assert len(all_) == 1


def test_tracks_that_share_a_recording_are_joined(rng):
    """A data set may group its recordings; a copy joins two groups."""
    signals = [rng.uniform(-1, 1, 8000) for _ in range(8)]
    signals.append(signals[1])

    class Concerts(Dataset):
        name, classes = "concerts", ("x", "y")

        def sources(self):
            return [
                Recording(f"{i}", i // 2 % 2, lambda s=s: (s, 4000), f"concert {i}")
                for i, s in enumerate(signals)
            ]

    with pytest.warns(UserWarning, match="1 = 8: the same recording each"):
        splits = Concerts(n_clips=None, rate=4000, cache_dir=None).load(0)
    tracks = {
        file: track
        for clips in splits.sets().values()
        for file, track in zip(clips.files, clips.tracks, strict=True)
    }
    assert tracks["8"] == tracks["1"] == "concert 1"
    assert len(set(tracks.values())) == 8


def test_groups_and_what_they_join(rng):
    codes = [rng.integers(0, 16, (2, 5), dtype=np.uint8) for _ in range(3)]
    assert find([*codes, codes[1].copy(), codes[0], codes[0][:1]]) == [[0, 4], [1, 3]]
    assert join(list("abcde"), [[1, 3], [3, 4]]) == ["a", "b", "c", "b", "b"]
    assert join(["a", "b", "b", "c"], [[0, 1], [2, 3]]) == ["a"] * 4
