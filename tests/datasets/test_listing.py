import os
import shutil
import tempfile
from pathlib import Path

import pytest

from nnjit.datasets import Folder
from nnjit.datasets.listing import find_recordings
from nnjit.errors import DataError, SkippedFileWarning


def names(folder):
    return [recording.name for recording in find_recordings(folder, 0, folder)]


@pytest.fixture
def music(tmp_path):
    """Return a folder with files a/0.wav and b.WAV, and one elsewhere with c.wav and d/e.wav."""
    for name in ("music/a/0.wav", "music/b.WAV", "elsewhere/c.wav", "elsewhere/d/e.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "music"


def test_links_to_files_and_folders_are_followed(music):
    (music / "more").symlink_to("../elsewhere")
    (music / "one.wav").symlink_to(music.parent / "elsewhere" / "c.wav")
    assert names(music) == ["a/0.wav", "b.WAV", "more/c.wav", "more/d/e.wav", "one.wav"]


def test_links_in_circles_are_read_once(music):
    (music / "a" / "up").symlink_to("..")
    (music / "0_first_by_name").symlink_to("a")
    (music / "x").symlink_to("y")
    (music / "y").symlink_to("../elsewhere")
    (music.parent / "elsewhere" / "back").symlink_to(music)
    assert names(music) == ["a/0.wav", "b.WAV", "x/c.wav", "x/d/e.wav"]


def test_links_that_lead_nowhere_are_told(music):
    (music / "gone.wav").symlink_to("../.git/annex/objects/x")
    (music / "self").symlink_to("self")
    (music / "gone.txt").symlink_to("nowhere")
    with pytest.warns(SkippedFileWarning) as caught:
        assert names(music) == ["a/0.wav", "b.WAV"]
    told = [str(warning.message) for warning in caught]
    assert told[0].startswith(
        f"{music}/gone.wav is a link to ../.git/annex/objects/x, which cannot"
    )
    assert "fetch what it leads to, or remove it" in told[0]
    assert told[1].startswith(f"{music}/self is a link to self, ")
    assert len(told) == 2


def test_a_folder_that_may_not_be_read_is_told(music, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(SkippedFileWarning, match=r"music/a cannot be read \(Permission denied\)"):
        assert names(music) == ["b.WAV"]
    with pytest.raises(DataError, match=r"root=.*a cannot be read \(Permission denied\): allow it"):
        Folder(music / "a")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no permissions like these here")
def test_a_folder_without_permission_is_told():
    with tempfile.TemporaryDirectory() as place:  # that another user may enter, unlike tmp_path
        root = Path(place)
        for name in ("a/0.wav", "b/1.wav", "c/2.wav"):
            (root / name).parent.mkdir()
            (root / name).touch()
        for path, mode in ((root, 0o755), (root / "a", 0), (root / "b", 0o444)):
            path.chmod(mode)
        user = os.geteuid()
        try:
            if user == 0:  # who may read all
                os.seteuid(65534)
            with pytest.warns(SkippedFileWarning) as caught:
                assert names(root) == ["c/2.wav"]
        finally:
            os.seteuid(user)
            for name in "ab":
                (root / name).chmod(0o755)
    told = sorted(str(warning.message) for warning in caught)
    assert told[0].startswith(f"{root}/a cannot be read (Permission denied): allow it, or remove")
    assert told[1].startswith(f"{root}/b/1.wav cannot be read (Permission denied)")
    assert len(told) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_told_and_hidden_and_other_files_are_not(music):
    os.mkfifo(music / "pipe.wav")
    (music / ".hidden.wav").touch()
    (music / ".cache").mkdir()
    (music / ".cache" / "x.wav").touch()
    (music / "notes.TXT").touch()
    (music / "songs.zip").mkdir()
    (music / "songs.zip" / "1.wav").touch()
    with pytest.warns(SkippedFileWarning, match=r"pipe.wav is no regular file: remove it"):
        assert names(music) == ["a/0.wav", "b.WAV", "songs.zip/1.wav"]


def test_a_class_behind_a_link(two_authors, write):
    options = {"n_clips": None, "rate": 4000, "cache_dir": None}
    plain = Folder(two_authors, **options).load(0)
    shutil.move(two_authors / "b", two_authors.parent / "stored")
    (two_authors / "b").symlink_to("../stored")
    assert Folder(two_authors, **options).load(0).digest == plain.digest
    (two_authors / "c").symlink_to("nowhere")
    with pytest.warns(
        SkippedFileWarning, match=r"root/c is a link to nowhere, which cannot be read"
    ):
        assert Folder(two_authors, **options).classes == ("a", "b")


def test_files_of_no_class_are_told(two_authors, write):
    write("root/stray.wav")
    write("root/zz.wav")
    (two_authors / "README.md").touch()
    told = r"2 file\(s\) beside the folders of the classes are left out, .*/stray.wav for one"
    with pytest.warns(SkippedFileWarning, match=told):
        Folder(two_authors)
    Folder(two_authors, true="a", false="b")
