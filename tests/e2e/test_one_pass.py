"""Replicas: several models in one pass, each with the bits of its own run."""

import re
import signal
import time

import pytest
from commands import RUN, SMALL, python, refused, runs, start, succeeded
from test_sweeps import split

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]


def digests(run):
    return [run.data.tags[f"nnjit.{name}_digest"] for name in ("weights", "metrics")]


def test_each_replica_is_the_run_of_its_seed(tmp_path):
    lines = succeeded(python(*RUN, *SMALL, "seed=4", "trainer.replicas=3", cwd=tmp_path))
    parent, children = split(tmp_path)
    assert [children[i].data.params["trainer.seed"] for i in range(3)] == ["4", "5", "6"]
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    values = [run.data.metrics["final/val_accuracy"] for run in children.values()]
    stored = {
        key.rpartition("_")[2]: value
        for key, value in parent.data.metrics.items()
        if "/val_accuracy_" in key
    }
    assert stored["mean"] == pytest.approx(sum(values) / 3)
    assert stored["low"] <= stored["mean"] <= stored["high"]
    assert any(re.search(r"\b3\s+val ", line) for line in lines)  # one variant of three seeds
    succeeded(python(*RUN, *SMALL, "seed=4", "trainer.seed=6", cwd=tmp_path))
    assert digests(runs(tmp_path)[0]) == digests(children[2])
    assert digests(children[2]) != digests(children[0])


def test_learning_rates_and_models_in_a_sweep(tmp_path):
    varied = ("model=rnn,ff", "optimizer.learning_rate=0.01,0.1", "trainer.replicas=2")
    succeeded(python(*RUN, "-m", *SMALL[:-2], *varied, "trainer.epochs=2", cwd=tmp_path))
    _, children = split(tmp_path)
    settings = {
        (
            r.data.tags["nnjit.model"],
            *(r.data.params[k] for k in ("optimizer.learning_rate", "trainer.seed")),
        )
        for r in children.values()
    }
    assert len(children) == len(settings) == 8


def test_a_diverging_replica_leaves_the_others(tmp_path):
    rates = ("-m", "optimizer.learning_rate=0.1,3e38", "trainer.replicas=2")
    done = python(*RUN, *SMALL, *rates, "tracking=none", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("the loss became") >= 2
    assert "Traceback" not in done.stdout + done.stderr
    assert len(list(tmp_path.glob("runs/sweeps/*/*/*/model.pkl"))) == 2


def test_ctrl_c_ends_all(tmp_path):
    endless = ("trainer.epochs=10000000", "trainer.replicas=3")
    process = start(*RUN, *SMALL, *endless, cwd=tmp_path)
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("runs/sweeps/*/*/records/*.json"))) < 3:
        assert time.monotonic() < end, process.communicate()
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    parent, children = split(tmp_path)
    assert {run.info.status for run in (parent, *children.values())} == {"KILLED"}
    assert len(children) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("trainer.replicas=many",), "trainer.replicas=many: use 1 or more"),
        (("trainer.replicas=2", "seed=null"), "seed=null: .* counts on from one seed"),
        (("trainer.replicas=2", "hydra/launcher=joblib"), "has a launcher of its own"),
        (("hydra/launcher=one_pass", "hydra.launcher.at_once=0", "-m"), "at_once=0: use 1"),
    ],
)
def test_bad_input(options, message, tmp_path):
    assert re.search(message, refused(python(*RUN, *SMALL, *options, cwd=tmp_path)))
    assert not list(tmp_path.glob("runs/sweeps/*/*/records/*.json"))
