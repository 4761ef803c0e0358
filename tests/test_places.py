"""Stores that were moved, that can only be read, or that another variable names."""

import contextlib
import os
import shutil
import sqlite3
import warnings
from pathlib import Path

import pytest
import toy

from nnjit.classifier import Classifier
from nnjit.commands.arguments import store_options
from nnjit.errors import ConfigError
from nnjit.runtime.places import given_path, have_home
from nnjit.tracking import MlflowTracker, Store, find_unfinished, store_uri
from nnjit.tracking.moved import readable
from nnjit.tracking.parent import SweepInfo
from nnjit.training.run import RunInfo, Trained, TrainingRun


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a project with a finished run, an unfinished one and a sweep on record."""
    project = tmp_path_factory.mktemp("made") / "project"
    data, model = toy.data(), toy.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        for name in ("first", "second"):
            folder = project / "runs" / "outputs" / name
            folder.mkdir(parents=True)
            (folder / "checkpoint.pkl").touch()
            tags = {"nnjit.started_in": str(project)}
            info = RunInfo(name, {"a": 1}, [], tags, "", folder, folder / "checkpoint.pkl")
            tracker = MlflowTracker(str(project / "runs"))
            tracker.start(info, data)
            history = toy.trainer().fit(model, data, [tracker])
            if name == "first":
                trained = Trained(history, data, Classifier.of(model, data), folder)
                tracker.on_run_end(TrainingRun(info, data, model, None, None, [tracker]), trained)
            else:
                tracker.fail("interrupted", interrupted=True)
        sweep = project / "runs" / "sweeps" / "one"
        sweep.mkdir(parents=True)
        tracker.parent().start(SweepInfo("sweep", [], "", sweep), {})
    return project


def addresses(project):
    """Return everything in the store that names a folder."""
    with contextlib.closing(sqlite3.connect(project / "runs" / "mlflow.db")) as store:
        return "\n".join(store.iterdump())


@pytest.mark.filterwarnings("ignore:the store in")
@pytest.mark.parametrize("name", ["moved", "what? x%20y"])
def test_a_moved_project_goes_on(made, name, tmp_path):
    before = tmp_path / "before"
    shutil.copytree(made, before)
    uri = store_uri(before / "runs")
    Store.existing(uri)  # a copy is a store of its own
    assert str(made) not in addresses(before)
    after = before.rename(tmp_path / name)
    uri = store_uri(after / "runs")
    store = Store.existing(uri)
    run = store.run("latest")
    assert Classifier.load(store.model_file(run.id)).classes == ("low", "high")
    assert store.config(run.id) == {"a": 1}
    assert run.tags["nnjit.started_in"] == str(after)
    _, checkpoint = find_unfinished("latest", uri, [after / "runs"])
    assert checkpoint == after / "runs" / "outputs" / "second" / "checkpoint.pkl"
    tracker = MlflowTracker(str(after / "runs"))
    assert tracker.parent().find("latest") == after / "runs" / "sweeps" / "one"
    info = RunInfo("third", {"a": 1}, [], {}, "", tmp_path)
    tracker.start(info, toy.data())
    assert list((after / "runs" / "artifacts" / tracker.run_id).rglob("config.yaml"))
    assert not before.exists()
    assert str(before) not in addresses(after)


def test_a_move_is_told_once(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    uri = store_uri(tmp_path / "copy" / "runs")
    with pytest.warns(UserWarning, match=f"the store in {made / 'runs'} is now in"):
        Store.existing(uri)
    Store.existing(uri)


def test_artifacts_that_lie_elsewhere_stay_there(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    artifacts = tmp_path / "copy" / "runs" / "artifacts"
    before = addresses(tmp_path / "copy")
    shutil.rmtree(artifacts)
    (artifacts / "of_another_experiment").mkdir(parents=True)
    Store.existing(store_uri(tmp_path / "copy" / "runs"))
    assert addresses(tmp_path / "copy") == before


@pytest.fixture
def closed(made, tmp_path, monkeypatch):
    """Return a copy of the project that cannot be written."""
    shutil.copytree(made, tmp_path / "closed")
    root = tmp_path / "closed" / "runs"
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda p, m: may(p, m) and not (m & os.W_OK and Path(p).is_relative_to(root))
    )
    for path in (root / "mlflow.db", root):
        path.chmod(path.stat().st_mode & ~0o222)
    yield root
    root.chmod(0o755)


def test_a_store_that_can_only_be_read(closed):
    content = (closed / "mlflow.db").read_bytes()
    files = sorted(closed.rglob("*"))
    store = Store.existing(store_uri(closed))
    run = store.run("latest")
    assert Classifier.load(store.model_file(run.id)).classes == ("low", "high")
    assert run in store.runs()
    assert (closed / "mlflow.db").read_bytes() == content
    assert sorted(closed.rglob("*")) == files


def test_a_view_in_a_store_that_can_only_be_read(closed):
    from nnjit.commands import compare

    with pytest.raises(SystemExit):
        compare.main([f"root={closed}", "view=mine"])
    options = compare.parse([f"root={closed}", "view=mine"])
    store = Store.existing(options.uri)
    with pytest.raises(ConfigError, match="view=mine cannot be saved: the store is read-only"):
        compare.check_view(store, options)


def test_what_is_no_file_is_read_as_it_is(tmp_path):
    for uri in ("http://host:1", store_uri(tmp_path)):
        assert readable(uri) == uri


def test_the_store_that_mlflow_would_take_is_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    with pytest.warns(UserWarning, match=r"MLFLOW_TRACKING_URI=http://me:\*\*\*@host:5000 is not"):
        assert store_options({}) == store_uri(tmp_path / "runs")
    with pytest.warns(UserWarning, match="MLFLOW_TRACKING_URI"):
        MlflowTracker().check_address()
    for options in ({"root": "runs"}, {"uri": "http://other"}):  # who names a store knows
        store_options(options)
    MlflowTracker(uri="http://other").check_address()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(tmp_path / "runs"))
    store_options({})
    MlflowTracker().check_address()


def test_the_variable_stays_the_users(made, monkeypatch, tmp_path):
    for value in ("http://host:5000", None):
        if value:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI")
        Store.existing(store_uri(made / "runs"))
        assert os.environ.get("MLFLOW_TRACKING_URI") == value


def test_a_home_in_every_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert MlflowTracker("~/x").root == tmp_path / "home" / "x"
    assert store_options({"root": "~/x"}) == store_uri(tmp_path / "home" / "x")
    assert given_path("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")


def test_a_process_without_a_home(monkeypatch):
    name = "USERPROFILE" if os.name == "nt" else "HOME"
    monkeypatch.setenv(name, "/before")
    have_home()
    assert os.environ[name] == "/before"

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    have_home()
    assert not list(Path(os.environ[name]).iterdir())
