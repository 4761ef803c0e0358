"""A run that trained well is not lost in the recording of it."""

import contextlib
import signal
import sqlite3

import numpy as np
import pytest
import soundfile
import sqlalchemy
from commands import RUN, SMALL, client, python, runs, start, succeeded

from nnjit.classifier import Classifier
from nnjit.storage.files import weights_digest
from nnjit.tracking import store_uri
from nnjit.tracking.client import open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

OPTIONS = (*SMALL[:-1], "seed=3", "trainer.threads=1", "trainer.epochs=30")


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """Return the digests of a run whose record nothing disturbed."""
    place = tmp_path_factory.mktemp("undisturbed")
    succeeded(python(*RUN, *OPTIONS, cwd=place))
    (run,) = runs(place)
    return {k: v for k, v in run.data.tags.items() if k.endswith("s_digest")}


def disturbed(folder, disturb):
    """Start a run, disturb its store after the first epoch; return its lines and its error."""
    process = start(*RUN, *OPTIONS, cwd=folder)
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("epoch 0/"):
            disturb(folder / "runs")
    _, error = process.communicate(timeout=600)  # a call waits for 20 s
    assert process.returncode == 1, error
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith("nnjit: the run has finished training, but its record lacks ")
    return lines, last


def finished(folder, lines, error, digests):
    """See that the model is safe, and that the command that was printed completes the record."""
    (path,) = (folder / "runs" / "outputs").rglob("model.pkl")
    assert weights_digest(Classifier.load(path).model) == digests["nnjit.weights_digest"]
    assert lines[-2] == f"predict  python -m nnjit.predict model={path} audio=FILE_OR_FOLDER"
    command = lines[-1].removeprefix("resume   python -m nnjit.run ")
    assert f"{command} completes the record" in error
    again = succeeded(python(*RUN, command, cwd=folder))
    assert again[0].endswith("which has finished training: its record is completed")
    assert not any(line.startswith("epoch ") for line in again)
    (run,) = runs(folder)
    assert run.info.status == "FINISHED"
    assert "nnjit.failure" not in run.data.tags
    assert {k: v for k, v in run.data.tags.items() if k.endswith("s_digest")} == digests
    _, store = client(folder)
    found = store.get_metric_history(run.info.run_id, "val/loss")
    assert sorted(m.step for m in found) == list(range(30))
    assert len(store.list_artifacts(run.info.run_id, "figures")) == 4
    assert "predictions.csv" in {f.path for f in store.list_artifacts(run.info.run_id)}
    assert "final/val_roc_auc" in run.data.metrics
    mine = f"source_run_id = '{run.info.run_id}'"
    assert len(store.search_logged_models([run.info.experiment_id], mine)) == 1
    assert not list((folder / "runs" / "outputs").rglob("checkpoint.pkl"))


def test_artifacts_that_cannot_be_written(tmp_path, digests):
    def disturb(store):
        (store / "artifacts").rename(store / "kept")
        (store / "artifacts").write_text("")

    lines, error = disturbed(tmp_path, disturb)
    assert lines[-3].endswith("lacks predictions, figures, the model")
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert "final/val_accuracy" in run.data.metrics
    (tmp_path / "runs" / "artifacts").unlink()
    (tmp_path / "runs" / "kept").rename(tmp_path / "runs" / "artifacts")
    finished(tmp_path, lines, error, digests)


def test_a_store_that_another_process_locks(tmp_path, digests):
    locks = []

    def disturb(store):
        locks.append(sqlite3.connect(store / "mlflow.db", isolation_level=None))
        locks[0].execute("BEGIN EXCLUSIVE")

    lines, error = disturbed(tmp_path, disturb)
    assert "database is locked" in error
    locks[0].execute("ROLLBACK")
    locks[0].close()
    finished(tmp_path, lines, error, digests)


def test_names_of_classes_and_settings_of_the_environment(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("C♯", "C♭", "[noise]"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(4):
            soundfile.write(tmp_path / "d" / name / f"{i}.wav", rng.normal(0, 0.1, 2000), 1000)
    options = ("dataset=folder", "dataset.root=d", "dataset.rate=1000", "dataset.duration=0.5")
    options += ("dataset.n_clips=null", "dataset.cache_dir=null", "model=rnn", "trainer.epochs=1")
    environment = {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true", "PYTHONIOENCODING": "ascii"}
    environment["MLFLOW_ENABLE_ASYNC_LOGGING"] = "true"
    named = python(*RUN, *options, 'name="gru [/v2]"', cwd=tmp_path, **environment)
    assert named.returncode == 0, named.stderr
    assert "[noise]" in named.stdout
    assert "C\\u266f" in named.stdout
    (run,) = runs(tmp_path)
    assert {"val/recall/C_266f", "val/recall/C_266d", "val/recall/_noise_"} <= set(run.data.metrics)
    assert "gru [/v2]" in "\n".join(succeeded(python("-m", "nnjit.compare", cwd=tmp_path)))


def test_a_signal_breaks_no_call_to_the_store_off(tmp_path):
    """It comes when a row has been written and is not committed."""
    (tmp_path / "runs").mkdir()
    found = open_store(store_uri(tmp_path / "runs"))[1]
    run_id = found.create_run("0").info.run_id

    def come(connection, cursor, statement, *args):
        if statement.startswith("INSERT"):
            signal.raise_signal(signal.SIGINT)

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", come)
    with pytest.raises(KeyboardInterrupt) as kept:
        found.set_tag(run_id, "key", "value")
    sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", come)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db", timeout=0)) as other:
        other.execute("begin exclusive")
    assert found.get_run(run_id).data.tags["key"] == "value"
    assert kept.value.__traceback__ is not None
