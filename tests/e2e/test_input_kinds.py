"""What holds for runs on recordings holds for other inputs: resume to the same bits, sweeps."""

import numpy as np
import pytest
import soundfile
from commands import RUN, STOP, python, runs, succeeded

pytestmark = pytest.mark.slow


def log_mel(folder):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("hiss", "hum")):
        (folder / "music" / name).mkdir(parents=True)
        for i in range(4):
            sound = rng.normal(0, 0.05, (900, 2)) + label * np.sin(np.arange(900) / 3)[:, None] / 2
            soundfile.write(folder / "music" / name / f"{i}.wav", sound, 1000)
    folder_options = ("rate=1000", "duration=0.2", "n_clips=null", "root=music")
    options = ("encoding=log_mel", "frame=50", "hop=25", "n_mels=6", "channels=2")
    return ["dataset=folder", *(f"dataset.{o}" for o in (*folder_options, *options))]


def arrays(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12, 2)) + np.arange(60)[:, None, None] % 3
    x[rng.random(x.shape) < 0.1] = np.nan
    np.savez(folder / "a.npz", x=x, y=np.array(["a", "b", "c"])[np.arange(60) % 3])
    return ["dataset=arrays", "dataset.root=a.npz", "dataset.missing=interpolate"]


def strings(folder):
    rng = np.random.default_rng(0)
    (folder / "texts").mkdir()
    for name in ("one", "two"):
        lines = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(40)]
        (folder / "texts" / f"{name}.txt").write_text("\n".join(lines))
    return ["dataset=strings", "dataset.root=texts", "dataset.length=20"]


@pytest.mark.parametrize("make", [log_mel, arrays, strings])
def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path, make):
    (tmp_path / "stops.py").write_text(STOP)
    settings = ("model=gru", "trainer.epochs=3", "trainer.batch_size=5", "trusted=[stops]")
    command = (*RUN, *make(tmp_path), *settings, "+callbacks.stops={_target_: stops.Stop}")
    assert python(*command, cwd=tmp_path).returncode == 130
    succeeded(python(*RUN, "resume=latest", "trusted=[stops]", cwd=tmp_path))
    succeeded(python(*command, cwd=tmp_path))
    first, second = (run.data.tags["nnjit.weights_digest"] for run in runs(tmp_path))
    assert first == second


@pytest.mark.parametrize("make", [log_mel, arrays, strings])
def test_a_sweep_takes_every_kind(tmp_path, make):
    command = [*RUN, "-m", *make(tmp_path), "model=gru,rnn", "trainer.epochs=1"]
    done = python(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = [run for run in runs(tmp_path) if "mlflow.parentRunId" in run.data.tags]
    assert [run.info.status for run in jobs] == ["FINISHED"] * 2
