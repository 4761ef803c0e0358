"""What a model reads is the same in training, prediction, reproduction and the logged model."""

import numpy as np
import pytest
import soundfile
from commands import PREDICT, RUN, STOP, client, python, runs, succeeded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]
SMALL = ("dataset.rate=1000", "dataset.duration=0.2", "dataset.n_clips=48", "trainer.epochs=2")


def logged_model(folder):
    (run,) = runs(folder)
    mlflow, _ = client(folder)
    return mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")


def test_samples_are_the_same_all_the_way(tmp_path):
    raw = ("dataset.encoding=raw", "dataset.normalise=training", "dataset.frame=4")
    succeeded(python(*RUN, "dataset=karplus", "model=gru", *raw, *SMALL, cwd=tmp_path))
    told = succeeded(python("-m", "nnjit.reproduce", "latest", cwd=tmp_path))
    assert told[-1].startswith("the bits agree")
    loaded = logged_model(tmp_path)
    (spec,) = loaded.metadata.signature.inputs.inputs
    assert (spec.type, spec.shape) == (np.dtype("float32"), (-1, 50, 4))
    table = loaded.predict(np.zeros((3, 50, 4), np.float32))
    assert len(table) == 3
    sound = np.random.default_rng(0).normal(size=900)
    soundfile.write(tmp_path / "sound.wav", sound, 1000)
    lines = succeeded(python(*PREDICT, "run=latest", "audio=sound.wav", cwd=tmp_path))
    assert lines[-2].startswith("sound.wav: ")


def test_arrays_are_the_same_all_the_way(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 12, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["a", "b", "c"])[np.arange(60) % 3])
    arrays = ("dataset=arrays", "dataset.root=a.npz", "model=gru", "trainer.epochs=2")
    succeeded(python(*RUN, *arrays, cwd=tmp_path))
    told = succeeded(python("-m", "nnjit.reproduce", "latest", cwd=tmp_path))
    assert told[-1].startswith("the bits agree")
    loaded = logged_model(tmp_path)
    (spec,) = loaded.metadata.signature.inputs.inputs
    assert (spec.type, spec.shape) == (np.dtype("float32"), (-1, 12, 2))
    lines = succeeded(python(*PREDICT, "run=latest", "audio=a.npz", cwd=tmp_path))
    assert lines[1].startswith("a.npz[0]")


def test_strings_are_the_same_all_the_way(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        lines = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(40)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    strings = ("dataset=strings", "dataset.root=.", "dataset.length=20", "trainer.epochs=2")
    succeeded(python(*RUN, *strings, cwd=tmp_path))
    told = succeeded(python("-m", "nnjit.reproduce", "latest", cwd=tmp_path))
    assert told[-1].startswith("the bits agree")
    (spec,) = logged_model(tmp_path).metadata.signature.inputs.inputs
    assert (spec.type, spec.shape) == (np.dtype("uint8"), (-1, 20))
    lines = succeeded(python(*PREDICT, "run=latest", "audio=one.txt", cwd=tmp_path))
    assert lines[1].startswith("one.txt:1@0")


def test_a_sweep_compares_symbols_and_samples(tmp_path):
    choices = ("-m", "dataset=karplus", "model=rnn", "dataset.encoding=uniform,raw")
    done = python(*RUN, *choices, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([run for run in runs(tmp_path) if run.info.status == "FINISHED"]) >= 2


def test_whole_recordings_are_the_same_all_the_way(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        place = tmp_path / "music" / ("low", "high")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        wave = np.sin((0.2 + i % 2) * np.arange(300 + 40 * i)) + rng.normal(0, 0.1, 300 + 40 * i)
        soundfile.write(place / f"{i}.wav", wave / 2, 1000)
    (tmp_path / "stops.py").write_text(STOP)
    whole = ("dataset=folder", "dataset.root=music", "dataset.duration=null", "dataset.rate=1000")
    model = ("model=gru", "model.layers.0.return_sequences=false", "dataset.n_clips=null")
    settings = ("trainer.epochs=3", "trainer.batch_size=2", "trusted=[stops]")
    stops = "+callbacks.stops={_target_: stops.Stop}"
    command = (*RUN, *whole, *model, *settings, stops)
    assert python(*command, cwd=tmp_path).returncode == 130
    lines = succeeded(python(*RUN, "resume=latest", "trusted=[stops]", cwd=tmp_path))
    again = succeeded(python(*command, cwd=tmp_path))
    assert any("300 to 740 steps" in line for line in again), lines
    first, second = (run.data.tags["nnjit.weights_digest"] for run in runs(tmp_path))
    assert first == second
    told = succeeded(python("-m", "nnjit.reproduce", "latest", "trusted=[stops]", cwd=tmp_path))
    assert told[-1].startswith("the bits agree")
    lines = succeeded(python(*PREDICT, "run=latest", "audio=music/low/0.wav", cwd=tmp_path))
    assert lines[1].startswith("0.wav@0.0s")
    mlflow, _ = client(tmp_path)
    (model_id,) = [o.model_id for o in runs(tmp_path)[0].outputs.model_outputs]
    loaded = mlflow.pyfunc.load_model(f"models:/{model_id}")
    (spec,) = loaded.metadata.signature.inputs.inputs
    assert (spec.type, spec.shape) == (np.dtype("uint8"), (-1, -1))
    clips = np.empty(2, object)
    clips[:] = [np.zeros(5, np.uint8), np.ones(9, np.uint8)]
    assert len(loaded.predict(clips)) == 2


@pytest.mark.parametrize("name", ["arrays", "strings"])
def test_words_are_those_of_the_inputs(tmp_path, name):
    if name == "arrays":
        x = np.random.default_rng(0).normal(size=(60, 12, 2))
        np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 2)
        options = ["dataset=arrays", "dataset.root=a.npz"]
    else:
        rng = np.random.default_rng(0)
        for label in ("one", "two"):
            lines = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(40)]
            (tmp_path / f"{label}.txt").write_text("\n".join(lines))
        options = ["dataset=strings", "dataset.root=.", "dataset.length=20"]
    command = [*RUN, "model=gru", *options]
    said = "\n".join(succeeded(python(*command, "trainer.epochs=1", cwd=tmp_path)))
    (run,) = runs(tmp_path)
    said += run.data.tags["mlflow.note.content"]
    for word in {"arrays": ("examples", "groups"), "strings": ("pieces", "strings")}[name]:
        assert word in said
    for word in ("clip", "track ", "tracks", "recording", "audio="):
        assert word not in said.replace("n_clips", "")
    assert "input=FILE_OR_FOLDER" in said
