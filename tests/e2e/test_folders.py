"""Where things are: folders of any name, a folder for each job, a user without a home."""

import sys
from pathlib import Path

import pytest
from commands import PREDICT, RUN, SMALL, python, runs, succeeded

COMPARE, UI = ("-m", "nnjit.compare"), ("-m", "nnjit.ui")
SHORT = (*SMALL, "trainer.epochs=1", "dataset.cache_dir=null")


def tone(folder, period=5):
    """Write a short recording."""
    import numpy as np
    import soundfile

    path = folder / "tone.wav"
    soundfile.write(path, np.sin(np.arange(2000) / period), 8000)
    return path


@pytest.mark.parametrize("name", ["what? x%20y #1&2;3", 'it\'s "[é]" @a:b {音}', "long" * 50])
def test_folders_of_any_name(name, tmp_path):
    place = tmp_path / name
    place.mkdir()
    succeeded(python(*RUN, *SHORT, cwd=place))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in place.iterdir()] == ["runs"]
    (run,) = runs(place)
    audio = f"audio={tone(tmp_path)}"
    lines = succeeded(python(*PREDICT, audio, f"root={place / 'runs'}", cwd=tmp_path))
    assert run.info.run_id in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "tone.wav"])


def test_a_folder_for_each_job_changes_no_place(tmp_path):
    (tmp_path / "music").mkdir()
    for first, name in ((5, "a"), (10, "b")):
        folder = tmp_path / "music" / name
        folder.mkdir()
        for i in range(4):
            tone(folder, first + i).rename(folder / f"{i}.wav")
    options = [*SHORT, "dataset=folder", "dataset.root=music", "dataset.split=clip"]
    options += ["dataset.n_clips=null", "dataset.cache_dir=runs/cache", "trainer.batch_size=2"]
    options.append("hydra.job.chdir=true")
    lines = succeeded(python(*RUN, *options, cwd=tmp_path))
    predict = next(line for line in lines if line.startswith("predict")).split()
    assert predict[-1] == "audio=FILE_OR_FOLDER"
    succeeded(python(*predict[2:-1], "audio=music", cwd=tmp_path))
    succeeded(
        python(
            *RUN,
            "-m",
            *options,
            "seed=1,2",
            "tracking.root=~/x",
            cwd=tmp_path,
            HOME=str(tmp_path / "home"),
        )
    )
    assert len(runs(tmp_path)) == 1
    found = runs(tmp_path / "home" / "x", "")
    parents = [run.data.tags.get("mlflow.parentRunId") for run in found]
    assert sorted(map(str, parents)) == sorted(["None", *[found[-1].info.run_id] * 2])
    assert len(list(tmp_path.rglob("mlflow.db"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "music", "runs"]


@pytest.mark.skipif(sys.platform == "win32", reason="the users of POSIX")
def test_no_home_and_an_unknown_user(tmp_path):
    nobody = str(Path(__file__).with_name("nobody.py"))
    lines = succeeded(python(nobody, "nnjit.run", *SHORT, cwd=tmp_path))
    assert any(line.startswith("predict") for line in lines)
    succeeded(python(nobody, "nnjit.compare", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
