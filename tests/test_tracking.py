import posixpath
import re
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy

import nnjit
from nnjit import tracking
from nnjit.classifier import Classifier
from nnjit.errors import TrackingError
from nnjit.runtime import signals
from nnjit.runtime.environment import environment
from nnjit.tracking import MlflowTracker, NoTracker, predictions, store_uri
from nnjit.tracking.client import _store_problem
from nnjit.tracking.recording import ModelFile, Step, carry_out
from nnjit.tracking.sqlite import sqlite_file, sqlite_uri
from nnjit.tracking.summary import (
    flatten,
    logged,
    metric_key,
    metric_keys,
    table_of_classes,
)
from nnjit.training import metrics
from nnjit.training.run import RunInfo, Trained, TrainingRun
from nnjit.training.summary import summarise


def fitted(n_classes=2, sizes=(50, 20, 20), **options):
    data, model = toy.data(n_classes, sizes), toy.model(n_classes)
    return toy.trainer(**options).fit(model, data), data, model


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"a": 1, "b": {"c": None, "d": "x"}}, {"a": 1, "b.c": None, "b.d": "x"}),
        ({"sizes": [2, 1, 0]}, {"sizes": [2, 1, 0]}),
        ({"layers": [{"units": 2}, {"rate": 0.5}]}, {"layers.0.units": 2, "layers.1.rate": 0.5}),
        ({"a": [[1, 2], [3]]}, {"a.0": [1, 2], "a.1": [3]}),
        ({"layers": {}, "trusted": []}, {"layers": {}, "trusted": []}),
    ],
)
def test_flatten(config, expected):
    assert flatten(config) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/recall", "val/recall"),
        ("val/recall/el senator", "val/recall/el senator"),
        ("val/recall/a[1]", "val/recall/a_1_"),
        ("val/recall/50%@home", "val/recall/50__home"),
        ("val/recall//tmp/music/a", "val/recall/tmp/music/a"),
        ("val/recall/../a", "val/recall/a"),
        ("val/recall/.", "val/recall"),
        ("val/recall/naïve", "val/recall/naïve"),
    ],
)
def test_metric_key(name, expected):
    assert metric_key(name) == expected
    assert re.fullmatch(r"[/\w.\- :]*", metric_key(name))  # as MLflow asks
    assert posixpath.normpath(metric_key(name)) == metric_key(name)


def test_store_uri_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_uri(Path("runs")) == f"sqlite:///{tmp_path.resolve()}/runs/mlflow.db"


NAMES = ["what?", "x%20y", "50%", "%3F", "a#b", "a&b=c", "é 音", ";", "[x]", "it's", "@a:b", "a+b"]


@pytest.mark.parametrize("name", [*NAMES, "long" * 50])
def test_an_address_leads_to_the_file_and_to_no_other(name, tmp_path):
    import sqlalchemy
    from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry

    path = tmp_path / name / "x.db"
    path.parent.mkdir()
    uri = sqlite_uri(path)
    assert sqlite_file(uri) == path
    engine = create_sqlalchemy_engine_with_retry(uri)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (a INTEGER)"))
    engine.dispose()
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*.db")] == [Path(name, "x.db")]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_is_no_file_has_none():
    for uri in ("http://host", "postgresql://host/x", "sqlite:///:memory:", "sqlite:///file:x"):
        assert sqlite_file(uri) is None
    assert sqlite_file("sqlite:///a.db?timeout=3") == Path("a.db")


def test_environment_tells_what_a_result_depends_on():
    tags = environment()
    for name in ("numpy", "numba", "mlflow", "hydra-core"):
        assert tags[f"version.{name}"] == version(name)
    assert tags["version.python"] == sys.version.split()[0]
    assert int(tags["threads"]) >= 1
    assert int(tags["cores"]) >= 1
    assert tags["cpu"]
    if (Path(nnjit.__file__).parent.parent / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}\+?", tags["mlflow.source.git.commit"])


def test_summary_has_best_final_baseline_and_interval():
    history, data, _ = fitted(epochs=5)
    found = summarise(history, data)
    assert found["best/epoch"] == history.best.epoch
    for name, clips in data.sets().items():
        final = history.final.sets[name].values
        assert found[f"final/{name}_accuracy"] == final["accuracy"]
        assert found[f"best/{name}_loss"] == history.best.sets[name].values["loss"]
        assert found[f"baseline/{name}_accuracy"] == metrics.majority_baseline(clips.labels)
        low, high = found[f"final/{name}_accuracy_low"], found[f"final/{name}_accuracy_high"]
        assert 0 <= low < final["accuracy"] < high <= 1
        for metric in metrics.monitored():
            assert found[f"final/{name}_{metric}"] == final[metric]
    mean = sum(epoch.train_seconds for epoch in history.epochs) / 5
    assert found["seconds/epoch_mean"] == pytest.approx(mean)


def test_summary_of_three_classes_leaves_single_classes_out():
    found = summarise(*fitted(3, (51, 21, 0))[:2])
    assert "final/val_recall" in found
    assert not any("middle" in key for key in found)
    assert not any("test" in key for key in found)


def test_no_tracker_leaves_the_model_in_the_folder(tmp_path):
    folder = tmp_path / "my runs"
    folder.mkdir()
    history, data, model = fitted()
    tracker = NoTracker()
    info = RunInfo("name", {}, [], {}, "", folder)
    run = TrainingRun(info, data, model, None, None, [tracker, ModelFile()])
    trained = Trained(history, data, Classifier.of(model, data), folder)
    for observer in run.callbacks:
        observer.on_run_start(run)
    for observer in reversed(run.callbacks):
        observer.on_run_end(run, trained)
    assert not run.missing
    (line,) = run.lines
    assert Classifier.load(folder / "model.pkl").classes == ("low", "high")
    assert f"nnjit.predict model='{folder / 'model.pkl'}'" in line


def test_directions_name_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, there = MlflowTracker(), MlflowTracker(root="else where")
    far = MlflowTracker(uri="http://host:5000")
    data = SimpleNamespace(encoding=nnjit.datasets.Encoding())
    lines = []
    for tracker in (here, there, far):
        tracker.run_id, tracker._experiment = "abc", "7"
        lines.append(tracker.directions(SimpleNamespace(data=data), {}))
    assert lines[0][-1].endswith("run=abc audio=FILE_OR_FOLDER")
    assert "root=" not in lines[0][-1]
    assert f"root='{tmp_path / 'else where'}'" in lines[1][-1]
    assert "uri=http://host:5000" in lines[2][-1]
    assert lines[0][1] == "open     python -m nnjit.ui run=abc"
    assert lines[1][1].endswith(f"nnjit.ui run=abc root='{tmp_path / 'else where'}'")
    assert "http://host:5000/#/experiments/7/runs/abc" in lines[2][1]


def test_no_store_here_says_what_to_do(tmp_path):
    with pytest.raises(TrackingError, match="call this in the folder where you trained"):
        tracking.Store.existing(store_uri(tmp_path))
    assert not list(tmp_path.iterdir())


def test_failing_before_the_start_is_quiet():
    MlflowTracker().fail("no data")


@pytest.mark.parametrize(
    "text", ["Detected out-of-date database schema", "Can't locate revision identified by 'x'"]
)
def test_a_store_of_another_mlflow(text):
    assert "written by another version" in _store_problem("sqlite:///x", Exception(text))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_the_end_of_a_call_to_the_store(number):
    done, before = [], signal.signal(signal.SIGTERM, signal.default_int_handler)

    def call():
        with signals.held():
            signal.raise_signal(number)
            done.append("all")

    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["all"]


@pytest.mark.parametrize(
    "names",
    [
        ["val/recall", "val/recall/C♯", "val/recall/C♭", "val/recall/C_", "val/recall/C_266f"],
        ["a[1]", "a(1)", "a{1}", "a_1_"],
        ["val/recall", "val/recall/.", "val/recall/..", "val/recall//"],
        ["x" * 300, "x" * 250, "x" * 301, "y/" * 200],
        ["हि", "हु", "a\nb", "a\tb", "\udcff", "\udcfe", "🎸", "🎹"],
    ],
)
def test_metric_names_of_a_run_stay_distinct(names):
    """MLflow keeps one metric of each name, and takes few characters."""
    from mlflow.utils.validation import _validate_metric_name

    found = metric_keys(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for name, key in found.items():
        _validate_metric_name(key)
        if name == metric_key(name) and names.count(name) == 1:
            assert key == name


def test_metric_names_that_are_alone_are_as_they_were():
    names = ["val/recall/a [50%] @home", "val/recall/naïve", "val/loss"]
    assert metric_keys(names) == {name: metric_key(name) for name in names}


def test_values_of_many_classes_go_into_a_table():
    data, history = toy.many(60)
    epoch = history.final
    assert set(logged(epoch)) == {k for k in epoch.flat() if k.count("/") == 1}
    rows = table_of_classes(epoch, data.classes).splitlines()
    assert rows[0] == "set,class,clips,recall,precision,f1,specificity,npv"
    assert len(rows) == 1 + 60 * len(epoch.sets)
    first = rows[1].split(",")
    assert first[:2] == ["train", data.classes[0]]
    assert float(first[3]) == epoch.sets["train"].values[f"recall/{data.classes[0]}"]
    few = fitted(3, (51, 21, 0))[0].final
    assert logged(few) == few.flat()


def test_each_step_is_tried_alone_and_again():
    calls = []

    def step(name, failures):
        def write():
            calls.append(name)
            if calls.count(name) <= failures:
                raise OSError(f"no {name}")

        return Step(name, write)

    steps = [step("a", 1), step("b", 0), step("c", 9), step("d", 2)]
    assert carry_out(steps, (0, 0)) == {"c": "OSError: no c"}
    assert calls == ["a", "b", "c", "d", "a", "c", "d", "c", "d"]


def test_predictions_of_many_clips_are_drawn_evenly(monkeypatch, tmp_path):
    history, data, model = fitted()
    trained = Trained(history, data, Classifier.of(model, data), tmp_path)
    whole, n = predictions.table_of_predictions(trained)
    assert n == len(data) == len(whole.splitlines()) - 1
    monkeypatch.setattr(predictions, "_MOST_CLIPS", 30)
    some, n = predictions.table_of_predictions(trained)
    assert n == 30 == len(some.splitlines()) - 1
    assert set(some.splitlines()) < set(whole.splitlines())
    shares = [len(clips) / len(data) for clips in data.sets().values()]
    for name, share in zip(data.sets(), shares, strict=True):
        count = sum(line.startswith(f"{name},") for line in some.splitlines())
        assert count == pytest.approx(30 * share, abs=1.5)


def test_predictions_are_those_of_the_clips_in_their_order(tmp_path):
    import csv

    history, data, model = fitted()
    trained = Trained(history, data, Classifier.of(model, data), tmp_path)
    rows = list(csv.DictReader(predictions.table_of_predictions(trained)[0].splitlines()))
    for name, clips in data.sets().items():
        mine = [row for row in rows if row["set"] == name]
        assert [row["file"] for row in mine] == list(clips.files)
        assert [row["label"] for row in mine] == [data.classes[k] for k in clips.labels]
        p = history.final.sets[name].probabilities
        assert [float(row["p_high"]) for row in mine] == pytest.approx(p[:, -1].tolist(), rel=1e-7)
