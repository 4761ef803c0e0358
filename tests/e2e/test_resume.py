import contextlib
import pickle
import random
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
from commands import RUN, client, python, refused, runs, start, succeeded
from forked import Commands

from nnjit.classifier import Classifier
from nnjit.commands.resume import resume as go_on
from nnjit.errors import NnjitError
from nnjit.storage.files import weights_digest
from nnjit.tracking import Store, store_uri
from nnjit.tracking.client import open_store
from nnjit.training.checkpoint import FORMAT, Checkpoint, run_lock

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

LONG = (
    *("dataset=karplus", "dataset.rate=500", "dataset.duration=0.1", "dataset.n_clips=64"),
    *("model=gru", "optimizer=adam", "schedule=exponential", "seed=7"),
    *("trainer.threads=1", "trainer.epochs=60", "trainer.batch_size=5"),
    *("trainer.drop_last=false", "trainer.restore_best=true", "trainer.monitor=val/loss"),
    "checkpoint_every=0.05",
)
MORE = "trainer.epochs=300"  # not over before it is interrupted
KILLS = 24
FULL = "nnjit: the disk is full: free some space, or start in a folder on another disk\n"


def record(folder, run):
    """Return what must not depend on interruptions: all but times."""
    _, found = client(folder)
    histories = {
        key: [(m.step, m.value) for m in found.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }
    seconds = histories.pop("seconds/train")
    del histories["seconds/epoch_mean"]
    path = Store.existing(store_uri(folder / "runs")).model_file(run.info.run_id)
    models = found.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    return {
        "histories": {key: sorted(values) for key, values in histories.items()},
        "seconds": sorted(step for step, _ in seconds),
        "digest": run.data.tags["nnjit.weights_digest"],
        "model": weights_digest(Classifier.load(path).model),
        "models": [str(model.status) for model in models],
        "params": run.data.params,
        "status": run.info.status,
        "failure": run.data.tags.get("nnjit.failure"),
        "datasets": [d.dataset.digest for d in run.inputs.dataset_inputs],
        "figures": sorted(f.path for f in found.list_artifacts(run.info.run_id, "figures")),
    }


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    with Commands(tmp_path_factory.mktemp("killed")) as found:
        yield found


@pytest.fixture(scope="module")
def whole(commands):
    """Return the record of a run that nothing interrupted, and the seconds it took."""
    for _ in range(2):  # the first makes the store, too
        began = time.monotonic()
        code, output = commands.run(*LONG)
        seconds = time.monotonic() - began
        assert code == 0, output
    records = [record(commands.cwd, run) for run in runs(commands.cwd)]
    assert records[0] == records[1]
    return records[0], seconds


def unfinished(folder):
    return [run for run in runs(folder) if run.info.status != "FINISHED"]


def test_killed_at_random_moments(commands, whole):
    """Kill runs, new ones and those that go on, until so many were killed; all end alike."""
    expected, seconds = whole
    seed = random.randrange(10**6)
    rng, killed = random.Random(seed), []
    while len(killed) < KILLS:
        assert len(runs(commands.cwd)) < 3 * KILLS
        left = unfinished(commands.cwd)
        again = rng.choice(["latest", left[0].info.run_id]) if left else ""
        arguments = [f"resume={again}"] if again else LONG
        number = rng.choice([signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGINT])
        after = rng.uniform(0, 0.6 * seconds)
        code, output = commands.run(*arguments, after=after, number=number)
        assert code in (0, -number, 130), output
        # Python itself drops, and tells so, what a signal raises inside of a destructor.
        assert "Traceback" not in output.partition("Exception ignored in")[0]
        killed += [(number.name, bool(again), output)] * bool(code)
    for run in unfinished(commands.cwd):
        code, output = commands.run(f"resume={run.info.run_id}")
        assert code == 0, output
    found = runs(commands.cwd)
    assert len(found) > 2
    for run in found:
        assert record(commands.cwd, run) == expected, (run.info.run_id, seed)


def resume(folder, *arguments):
    return succeeded(python(*RUN, *arguments, cwd=folder))


@pytest.fixture(scope="module")
def untracked_whole(tmp_path_factory):
    """Return the model file of a run that is not on record and that nothing interrupted."""
    place = tmp_path_factory.mktemp("whole")
    resume(place, *LONG, MORE, "tracking=none")
    (path,) = place.rglob("model.pkl")
    return path.read_bytes()


def interrupted(folder, *arguments, at="epoch 0/", number=signal.SIGINT):
    """Start a run and send it a signal in a certain epoch; return what it wrote."""
    process = start(*RUN, *LONG, MORE, *arguments, cwd=folder)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(at):
            process.send_signal(number)
    _, error = process.communicate(timeout=300)
    assert process.returncode in (130, -number), error
    return [line.rstrip() for line in lines]


def test_the_last_line_tells_how_to_go_on(tmp_path, untracked_whole):
    command = interrupted(tmp_path, "tracking=none")[-1]
    assert command.startswith("resume   python -m nnjit.run resume=")
    lines = resume(tmp_path, command.split()[-1])
    assert lines[0].startswith(f"resume {tmp_path}/runs/outputs/")
    assert re.search("from epoch [0-9]+, batch [0-9]", lines[0])
    assert not lines[0].endswith("from epoch 0, batch 0 of 7")
    assert any(line.lstrip().startswith("0  ") for line in lines)  # the table has all epochs
    (path,) = tmp_path.rglob("model.pkl")
    assert path.read_bytes() == untracked_whole
    assert not list(tmp_path.rglob("*checkpoint*"))
    assert "nothing to resume there" in refused(python(*RUN, f"resume={path.parent}", cwd=tmp_path))


def test_a_store_elsewhere_is_in_the_command(tmp_path):
    command = interrupted(tmp_path, "tracking.root=else where")[-1]
    arguments = shlex.split(command)[4:]
    assert arguments[1] == f"tracking.root={tmp_path}/else where"
    missing = refused(python(*RUN, arguments[0], cwd=tmp_path))
    assert "add tracking.root=FOLDER" in missing
    lines = resume(tmp_path, *arguments, "trainer.threads=2")
    assert lines[-3].startswith(f"run      {arguments[0].removeprefix('resume=')} in ")
    assert "has finished: there is nothing to resume" in refused(
        python(*RUN, *arguments, cwd=tmp_path)
    )


@pytest.mark.parametrize("tracking", ["none", "mlflow"])
def test_full_disk(tracking, small_disk, tmp_path_factory):
    """A run stops when its checkpoint finds no room, and goes on when there is some."""
    # So long that another checkpoint is due before its end.
    arguments = (*LONG, "trainer.epochs=600", "checkpoint_every=0.001")
    whole = tmp_path_factory.mktemp("whole")
    resume(whole, *arguments, "tracking=none")
    place = small_disk("8m")
    options = ("hydra.run.dir=runs/out", f"tracking={tracking}")
    process = start(*RUN, *arguments, *options, cwd=place)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGSTOP)
            fill(place / "runs" / "filler")
            process.send_signal(signal.SIGCONT)
            break
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (1, FULL)
    state, _ = Checkpoint.read(place / "runs" / "out" / "checkpoint.pkl")
    assert (0, 0) < (state.position.epoch, state.position.batch) < (600, 0)
    (place / "runs" / "filler").unlink()
    resume(place, f"resume={'latest' if tracking == 'mlflow' else 'runs/out'}")
    paths = list((place / "runs").rglob("model.pkl"))
    assert len(paths) == (2 if tracking == "mlflow" else 1)
    (expected,) = whole.rglob("model.pkl")
    assert {path.read_bytes() for path in paths} == {expected.read_bytes()}


def fill(path):
    """Write a file until the disk is full, to the last byte."""
    with open(path, "wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def refuses(folder, *arguments):
    """Return the one line with which the command is refused in a folder; in this process."""
    with contextlib.chdir(folder), pytest.raises(NnjitError) as error:
        go_on(arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Return a folder with an interrupted run, and its id and checkpoint."""
    place = tmp_path_factory.mktemp("left")
    interrupted(place)
    (run,) = runs(place)
    assert run.info.status == "KILLED"
    return place, run.info.run_id, Path(run.data.tags["nnjit.checkpoint"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=latest", "seed=3"], "seed=3 does not go with resume"),
        (["resume=latest", "--info"], "--info does not go with resume"),
        (["resume="], "resume= names no run"),
        (["resume=" + "f" * 32], "does not exist in the store"),
        (["resume=no/where"], "resume=no/where does not exist: use latest, an id, or a folder"),
        (["resume=latest", "tracking.root=empty"], "there is no store at"),
        (["resume=latest", "trainer.threads=0"], "trainer.threads=0 is not a number of threads"),
    ],
    ids=str,
)
def test_what_cannot_be_resumed_is_one_line(arguments, message, left):
    assert message in refuses(left[0], *arguments)


def test_a_damaged_checkpoint(left):
    place, run_id, path = left
    sound = path.read_bytes()
    try:
        for content, message in (
            (sound[:1000], "or is damaged"),
            (
                pickle.dumps({**pickle.loads(sound), "version": 99}, protocol=5),
                "format version 99, this nnjit",
            ),
            (None, f"the checkpoint of run {run_id} is not at {path}"),
        ):
            path.unlink() if content is None else path.write_bytes(content)
            assert message in refuses(place, "resume=latest")
    finally:
        path.write_bytes(sound)
    (run,) = runs(place)
    assert run.info.status == "KILLED"


def test_other_data(left):
    place, run_id, path = left
    state, about = Checkpoint.read(path)
    sound = path.read_bytes()
    about["config"]["dataset"]["data_seed"] = 99
    try:
        FORMAT.write(path, {"state": state.pack(), "about": about})
        error = refuses(place, f"resume={run_id}")
    finally:
        path.write_bytes(sound)
    assert "the data set karplus has changed since the run began" in error


def test_a_checkpoint_of_a_run_on_record_asks_for_its_store(left, tmp_path):
    path = left[2]
    assert "there is no store at" in refuses(tmp_path, f"resume={path}")
    open_store(store_uri(tmp_path / "runs"))
    error = refuses(tmp_path, f"resume={path}")
    assert "is of a run on record" in error
    assert "add tracking.root=FOLDER" in error


def test_a_run_that_goes_on_elsewhere_is_left_alone(left):
    place, run_id, path = left
    with run_lock(path):
        error = refuses(place, f"resume={run_id}")
        assert "another process is still at work" in error
        error = refuses(place, "resume=latest")
        assert "the store has no run that was interrupted" in error


def test_a_diverged_run_is_refused(tmp_path):
    error = refused(python(*RUN, *LONG, "optimizer.learning_rate=1e38", cwd=tmp_path))
    assert "epoch 0" in error
    error = refuses(tmp_path, "resume=latest")
    assert "would diverge again: the loss became" in error
    assert not list(tmp_path.rglob("checkpoint.pkl"))


def test_the_latest_is_one_that_can_go_on(tmp_path):
    command = interrupted(tmp_path)[-1]
    refused(python(*RUN, *LONG, "optimizer.learning_rate=1e38", cwd=tmp_path))
    run_id = command.split("resume=")[1]
    done = python(*RUN, "resume=latest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.splitlines()
    assert f"resume=latest is run {run_id}, the newest that can be resumed" in warning
    assert "would diverge again" in warning
    assert sorted(r.info.status for r in runs(tmp_path)) == ["FAILED", "FINISHED"]


def test_no_checkpoints(tmp_path):
    lines = interrupted(tmp_path, "checkpoint_every=null")
    assert "is on record as KILLED" in lines[-1]
    assert "checkpoint_every was null" in refuses(tmp_path, "resume=latest")
    assert not list(tmp_path.rglob("*checkpoint*"))


MAKE = """
import sys
import mlflow.store.db.utils, sqlalchemy
from nnjit.tracking.client import open_store
print("ready", flush=True)
open_store(sys.argv[1])
"""


def test_a_store_whose_maker_was_killed_is_made_again(tmp_path):
    rng, uri, broken = random.Random(1), store_uri(tmp_path / "runs"), 0
    for _ in range(6):
        maker = start("-c", MAKE, uri, cwd=tmp_path)
        assert maker.stdout.readline() == "ready\n"
        begun = tmp_path / "runs"
        while maker.poll() is None and not list(begun.glob(".mlflow.db.unfinished*")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.5) if broken else 0)  # the first is killed as it begins
        maker.kill()
        maker.communicate()
        broken += bool(list((tmp_path / "runs").glob(".mlflow.db.unfinished*")))
        if (tmp_path / "runs" / "mlflow.db").exists():
            assert open_store(uri)[1].search_experiments()
            shutil.rmtree(tmp_path / "runs")
    assert broken
    assert open_store(uri)[1].search_experiments()
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
