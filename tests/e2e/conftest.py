import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from commands import RUN, SMALL, python, runs, succeeded

from nnjit import datasets

GUITAR = Path(datasets.__file__).parent / "data" / "guitar"
OVERRIDES = (*SMALL, "seed=5", "name=first", "trainer.threads=1")


@pytest.fixture(scope="session", autouse=True)
def _mlflow_may_warn():
    """Import MLflow, whose own warnings are not ours, before warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
        from sqlalchemy.orm import configure_mappers

        configure_mappers()
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Return a folder in which one small run was tracked, and what it printed."""
    place = tmp_path_factory.mktemp("tracked")
    lines = succeeded(python(*RUN, *OVERRIDES, cwd=place))
    return place, lines


@pytest.fixture(scope="session")
def run(folder):
    """Return the MLflow run of that folder."""
    (found,) = runs(folder[0])
    return found


@pytest.fixture(scope="session")
def guitar(tmp_path_factory):
    """Return a folder with a run on the bundled recordings."""
    place = tmp_path_factory.mktemp("guitar")
    options = ("dataset.rate=200", "dataset.n_clips=64", "model=rnn", "trainer.epochs=2")
    succeeded(python(*RUN, *options, cwd=place))
    return place


@pytest.fixture
def music(tmp_path):
    """Return a folder with two classes of two bundled recordings each."""
    for author in sorted(p for p in GUITAR.iterdir() if p.is_dir() and "__" not in p.name):
        (tmp_path / "music" / author.name).mkdir(parents=True)
        for path in sorted(author.glob("*.ogg"))[:2]:
            shutil.copy(path, tmp_path / "music" / author.name)
    return tmp_path / "music"


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of a given size as the folder runs."""
    mounted = []

    def mount(size):
        place = tmp_path / "runs"
        place.mkdir()
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(options, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return tmp_path

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
