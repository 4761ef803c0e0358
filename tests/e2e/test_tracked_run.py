import json
import pickle
import re
import sys
from importlib.metadata import version

import pytest
import yaml
from commands import PREDICT, RUN, SMALL, client, python, refused, runs, start, succeeded
from conftest import GUITAR, OVERRIDES

from nnjit.classifier import Classifier
from nnjit.storage.files import weights_digest
from nnjit.tracking import Store, store_uri
from nnjit.training import metrics

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]
METRICS = metrics.monitored()


def artifact(folder, run, path):
    mlflow, _ = client(folder)
    return mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/{path}")


def model_file(folder, run):
    return Store.existing(store_uri(folder / "runs")).model_file(run.info.run_id)


def files(folder, run, path=""):
    _, found = client(folder)
    return {f.path for f in found.list_artifacts(run.info.run_id, path)}


def test_status_and_name(run):
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("first dataset=karplus ")
    assert run.data.tags["nnjit.kind"] == "run"


def test_resolved_configuration_is_in_the_parameters(folder, run):
    params = run.data.params
    expected = {
        "seed": "5",
        "trainer.seed": "5",
        "trainer.epochs": "3",
        "dataset.sizes": "[2, 1, 1]",
        "n_classes": "2",
        "model.layers.0._target_": "nnjit.layers.RNN",
        "model.layers.4.units": "2",
        "optimizer.learning_rate": "0.16",
        "schedule._target_": "nnjit.schedules.Constant",
    }
    assert expected.items() <= params.items()
    assert not any("${" in value for value in params.values())
    with open(artifact(folder[0], run, "config.yaml")) as file:
        assert yaml.safe_load(file)["trainer"]["seed"] == 5


def test_tags(run):
    tags = run.data.tags
    assert tags["nnjit.overrides"].split() == list(OVERRIDES)
    assert tags["nnjit.seed"] == "5"
    assert tags["nnjit.model"] == "rnn"
    assert tags["nnjit.split"] == "track"
    assert tags["version.numba"] == version("numba")
    assert tags["version.python"] == sys.version.split()[0]
    assert tags["cpu"]
    assert tags["threads"] == "1"
    assert re.fullmatch(r"[0-9a-f]{40}\+?", tags["mlflow.source.git.commit"])
    assert "rnn" in tags["mlflow.note.content"]
    assert tags["mlflow.note.content"].startswith("| set | accuracy | 95 % interval | baseline |")
    assert " the interval of the test accuracy " in tags["mlflow.note.content"]


@pytest.mark.parametrize("name", ["train", "val", "test"])
@pytest.mark.parametrize("metric", METRICS)
def test_every_epoch_of_every_metric(name, metric, folder, run):
    _, found = client(folder[0])
    history = found.get_metric_history(run.info.run_id, f"{name}/{metric}")
    assert [m.step for m in history] == [0, 1, 2]
    assert history[-1].value == run.data.metrics[f"final/{name}_{metric}"]
    best = int(run.data.metrics["best/epoch"])
    assert history[best].value == run.data.metrics[f"best/{name}_{metric}"]


def test_baselines_and_intervals(run):
    found = run.data.metrics
    for name in ("train", "val", "test"):
        assert found[f"baseline/{name}_accuracy"] == 0.5
        low, high = (found[f"final/{name}_accuracy_{side}"] for side in ("low", "high"))
        assert low < found[f"final/{name}_accuracy"] < high
    assert {"rate/rnn", "rate/dense", "seconds/train", "seconds/epoch_mean"} <= set(found)


def test_predictions_give_the_metrics_again(folder, run):
    pandas, scores = pytest.importorskip("pandas"), pytest.importorskip("sklearn.metrics")
    table = pandas.read_csv(artifact(folder[0], run, "predictions.csv"))
    columns = ["set", "file", "offset", "label", "prediction", "p_nylon", "p_steel"]
    assert list(table.columns) == columns
    assert len(table) == 48
    for name, rows in table.groupby("set"):
        found = {m: run.data.metrics[f"final/{name}_{m}"] for m in ("accuracy", "roc_auc", "mcc")}
        assert found["accuracy"] == pytest.approx((rows.label == rows.prediction).mean())
        assert found["mcc"] == pytest.approx(scores.matthews_corrcoef(rows.label, rows.prediction))
        assert found["roc_auc"] == scores.roc_auc_score(rows.label == "steel", rows.p_steel)
        assert ((rows.p_steel > rows.p_nylon) == (rows.prediction == "steel")).all()


def test_dataset_and_digest(folder, run):
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.name == "karplus"
    assert entry.dataset.digest == run.data.tags["nnjit.dataset_digest"]
    assert entry.dataset.digest in folder[1][0]
    with open(artifact(folder[0], run, "dataset.txt")) as file:
        assert file.read().splitlines() == folder[1][:5]


def test_figures_are_pictures(folder, run):
    names = ("learning_curves", "confusion_matrix", "precision_recall", "clips")
    assert files(folder[0], run, "figures") == {f"figures/{name}.png" for name in names}
    for name in names:
        with open(artifact(folder[0], run, f"figures/{name}.png"), "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_model_file_is_small_and_whole(folder, run):
    path = model_file(folder[0], run)
    classifier = Classifier.load(path)
    assert weights_digest(classifier.model) == run.data.tags["nnjit.weights_digest"]
    with open(path, "rb") as file:
        assert set(pickle.load(file)) == {
            "format",
            "version",
            "digest",
            "config",
            "weights",
            "extra",
        }


def test_pyfunc_in_a_fresh_process(folder, run, tmp_path):
    script = f"""
import json, mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///{folder[0]}/runs/mlflow.db")
model = mlflow.pyfunc.load_model("runs:/{run.info.run_id}/model")
codes = np.random.default_rng(0).integers(0, 16, (4, 200), np.uint8)
np.save("codes.npy", codes)
table = model.predict(codes)
print(json.dumps(table.to_dict("list")))
"""
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout.splitlines()[-1])
    import numpy as np

    expected = Classifier.load(model_file(folder[0], run)).predict(np.load(tmp_path / "codes.npy"))
    assert table["prediction"] == [("nylon", "steel")[k] for k in expected.predictions]
    np.testing.assert_allclose(table["p_steel"], expected.probabilities[:, 1], rtol=1e-6)


def test_last_lines_tell_where_and_how(folder, run):
    place, lines = folder
    where, look, judge = lines[-3:]
    assert where == f"run      {run.info.run_id} in sqlite:///{place}/runs/mlflow.db"
    assert look == f"open     python -m nnjit.ui run={run.info.run_id}"
    assert judge.endswith(f"nnjit.predict run={run.info.run_id} audio=FILE_OR_FOLDER")


def test_predict_with_the_printed_command(guitar):
    (run,) = runs(guitar)
    songs = sorted(GUITAR.glob("el_senator/*.ogg"))[:2]
    by_id = succeeded(python(*PREDICT, f"run={run.info.run_id}", f"audio={songs[0]}", cwd=guitar))
    latest = succeeded(python(*PREDICT, "run=latest", f"audio={songs[0]}", cwd=guitar))
    assert by_id == latest
    assert by_id[0].startswith(f"model  run {run.info.run_id}: carlos_viola, el_senator; reads ")
    rows = [re.fullmatch(r"(\S+)@(\S+)s +(\w+) +\[([\d.]+) ([\d.]+)\]", r) for r in by_id[1:33]]
    assert [float(row[2]) for row in rows] == list(range(32))
    assert all((row[3] == "el_senator") == (float(row[5]) > float(row[4])) for row in rows)
    assert by_id[33].startswith(f"{songs[0]}: ")
    both = succeeded(python(*PREDICT, songs[0], f"audio={songs[1]}", cwd=guitar))
    assert both[:34] == by_id[:34]
    assert sum("mean probability" in line for line in both) == 2


def test_predict_elsewhere(guitar, tmp_path):
    song = next(GUITAR.glob("el_senator/*.ogg"))
    error = refused(python(*PREDICT, f"audio={song}", cwd=tmp_path))
    assert "call this in the folder where you trained, or add root=FOLDER" in error
    assert not list(tmp_path.iterdir())
    lines = succeeded(python(*PREDICT, f"audio={song}", f"root={guitar / 'runs'}", cwd=tmp_path))
    assert lines[0].partition(";")[0].endswith("carlos_viola, el_senator")


def test_predict_with_a_run_that_is_not_there(guitar):
    song = next(GUITAR.glob("el_senator/*.ogg"))
    error = refused(python(*PREDICT, "run=abc", f"audio={song}", cwd=guitar))
    assert "run=abc does not exist" in error
    assert "run=latest" in error


def test_two_runs_at_once_and_a_foreign_run_id(folder):
    """Both are recorded apart, in a store that is there, whatever MLFLOW_RUN_ID says."""
    place = folder[0]
    before = len(runs(place))
    both = [
        start(*RUN, *SMALL, f"seed={seed}", "name=twin", cwd=place, MLFLOW_RUN_ID="f" * 32)
        for seed in (1, 2)
    ]
    written = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], written
    twins = [r for r in runs(place) if r.info.run_name.startswith("twin")]
    assert {r.info.status for r in twins} == {"FINISHED"}
    assert {r.data.tags["nnjit.seed"] for r in twins} == {"1", "2"}
    assert len(runs(place)) == before + 2
    folders = list((place / "runs" / "outputs").glob("*/*"))
    assert len(folders) == len(runs(place))


def test_a_seed_repeats_a_run(folder, run):
    place = folder[0]
    succeeded(python(*RUN, *OVERRIDES[:-2], "name=again", "trainer.threads=2", cwd=place))
    (again,) = (r for r in runs(place) if r.info.run_name.startswith("again"))
    tag = "nnjit.weights_digest"
    assert again.data.tags[tag] == run.data.tags[tag]
    assert again.data.metrics["final/val_loss"] == run.data.metrics["final/val_loss"]


def test_three_classes_with_odd_names(tmp_path, music):
    (music / "a [50%] @home").mkdir()
    songs = sorted(GUITAR.glob("el_senator/*.ogg"))[2:4]  # `music` has the first two
    for name, song in zip("12", songs, strict=True):
        (music / "a [50%] @home" / f"{name}.ogg").write_bytes(song.read_bytes())
    options = (
        "dataset=folder",
        f"dataset.root={music}",
        "dataset.rate=200",
        "dataset.sizes=[1,1,0]",
        "dataset.n_clips=null",
    )
    lines = succeeded(python(*RUN, *options, "model=rnn", "trainer.epochs=1", cwd=tmp_path))
    assert "3 classes" in lines[0] or "a [50%] @home" in "\n".join(lines)
    (found,) = runs(tmp_path)
    assert found.info.status == "FINISHED"
    assert {"val/recall", "val/recall/el_senator", "val/recall/a _50__ _home"} <= set(
        found.data.metrics
    )


@pytest.mark.slow
def test_first_runs_at_once_make_one_store(tmp_path):
    """A store that does not exist yet is made once, whoever comes first."""
    three = [start(*RUN, *SMALL, f"seed={seed}", cwd=tmp_path) for seed in (1, 2, 3)]
    written = [process.communicate(timeout=300) for process in three]
    assert [process.returncode for process in three] == [0, 0, 0], written
    assert [r.info.status for r in runs(tmp_path)] == ["FINISHED"] * 3


def test_norms_are_on_record_and_change_no_bit(run, tmp_path):
    options = ("callbacks.norms.every=2", "callbacks.lr_finder.steps=20")
    lines = succeeded(python(*RUN, *OVERRIDES, *options, cwd=tmp_path))
    assert any(line.startswith("rate     ") for line in lines)
    (watched,) = runs(tmp_path)
    assert watched.data.tags["nnjit.weights_digest"] == run.data.tags["nnjit.weights_digest"]
    _, found = client(tmp_path)
    for name in ("gradient_norm/rnn", "weight_norm/dense", "activation_rms/dense_2"):
        history = found.get_metric_history(watched.info.run_id, name)
        assert [metric.step for metric in history] == [0, 2]
        assert all(0 < metric.value < 1e3 for metric in history)
