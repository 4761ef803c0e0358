"""A store that version 0.1 wrote, in a folder that is not there any more."""

import tarfile
from pathlib import Path

import pytest
from commands import PREDICT, RUN, python, runs

STORE = Path(__file__).parents[1] / "data" / "store_0.1.tar.xz"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:the store in")]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(STORE) as tar:
        tar.extractall(folder, filter="data")
    return folder


def by_status(folder, status):
    return [r for r in runs(folder) if r.info.status == status]


def test_its_runs_are_compared(old):
    lines = python("-m", "nnjit.compare", cwd=old).stdout
    assert lines.count("model=") >= 4


def test_its_model_judges(old, music):
    done = python(*PREDICT, "run=latest", f"audio={music}", cwd=old)
    assert done.returncode == 0, done.stderr
    assert "mean probability" in done.stdout


def test_its_run_is_reproduced(old):
    finished = next(r for r in by_status(old, "FINISHED") if "seed=3" in r.info.run_name)
    done = python("-m", "nnjit.reproduce", f"run={finished.info.run_id}", cwd=old)
    assert done.returncode in (0, 1), done.stderr  # the bits are those of another processor
    assert "Traceback" not in done.stderr
    assert "weights" in done.stdout


def test_a_run_of_its_sweep_is_reproduced_with_options_that_have_other_names_now(old):
    swept = next(r for r in by_status(old, "FINISHED") if "model=rnn" in r.info.run_name)
    assert swept.data.params["trainer.keep_remainder"] == "True"
    done = python("-m", "nnjit.reproduce", f"run={swept.info.run_id}", cwd=old)
    assert done.returncode == 1
    # Its options are those of today by now; its sets, 11, 7 and 6 clips, are dealt 12, 6 and 6.
    assert "the data set karplus has changed" in done.stderr


def test_its_sweep_runs_the_job_that_it_lacks(old):
    (folder,) = {path.parent for path in old.glob("runs/sweeps/*/*/sweep.json")}
    (folder / "records" / "1.json").unlink()
    done = python(*RUN, "-m", f"resume={folder}", cwd=old)
    assert done.returncode == 0, done.stderr
    assert (folder / "records" / "1.json").exists()


def test_its_interrupted_run_is_resumed(old):
    (killed,) = by_status(old, "KILLED")
    done = python(*RUN, f"resume={killed.info.run_id}", cwd=old)
    assert done.returncode == 0, done.stderr
    (again,) = [r for r in runs(old) if r.info.run_id == killed.info.run_id]
    assert again.info.status == "FINISHED"
    assert again.data.metrics["final/train_accuracy"] == pytest.approx(1.0)
