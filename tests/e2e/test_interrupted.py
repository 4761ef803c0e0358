import os
import signal
import sys
import time

import pytest
from commands import RUN, SMALL, environment, python, refused, runs, start

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_closes_the_run(number, times, tmp_path):
    process = start(*RUN, *SMALL, "trainer.epochs=1000000", cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 20/"):
            break
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.02)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error == "nnjit: interrupted\n"
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED"
    assert run.data.tags["nnjit.failure"]
    assert run.data.metrics["train/loss"] > 0
    command = f"python -m nnjit.run resume={run.info.run_id}"
    assert output.splitlines()[-1] == f"resume   {command}"


@pytest.mark.parametrize("command", ["run", "predict", "compare", "reproduce", "ui"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_command_is_imported(command, name, tmp_path):
    process = start("-X", "importtime", "-m", f"nnjit.{command}", cwd=tmp_path)
    for line in process.stderr:
        if line.endswith(" nnjit.commands\n"):
            break
    process.stderr.readline()  # the first import of the command itself
    process.send_signal(getattr(signal, name))
    output, error = process.communicate(timeout=300)
    assert process.returncode == 130, error
    assert output == ""
    told = [line for line in error.splitlines() if not line.startswith("import time:")]
    assert told == ["nnjit: interrupted"]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals on this system")
def test_a_terminal_that_is_closed(tmp_path):
    """The system sends SIGHUP, and nothing can be printed any more."""
    import pty

    command = [sys.executable, *RUN, *SMALL, "trainer.epochs=1000000"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, command, environment(TERM="xterm"))
    said, until = b"", time.monotonic() + 600
    while b"/999999" not in said:
        assert time.monotonic() < until, said
        said += os.read(terminal, 4096)
    time.sleep(1)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED"


def test_divergence_is_recorded(tmp_path):
    error = refused(python(*RUN, *SMALL, "optimizer.learning_rate=1e38", cwd=tmp_path))
    assert "epoch 0" in error
    assert "lower optimizer.learning_rate" in error
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.tags["nnjit.failure"].startswith("DivergedError: the loss became")


@pytest.mark.parametrize(
    ("size", "more"),
    [("16k", []), ("300k", []), ("5m", ["model.layers.0.hidden_size=200", "checkpoint_every=999"])],
    ids=["at once", "the store", "the model"],
)
def test_full_disk(size, more, small_disk):
    place = small_disk(size)
    error = refused(python(*RUN, *SMALL, *more, cwd=place))
    assert "disk is full" in error
    if more:  # the model, of 10 MB, came last: the rest is on record
        (run,) = runs(place)
        assert run.info.status == "FAILED"
        assert "final/val_accuracy" in run.data.metrics


def test_full_disk_without_a_store(small_disk):
    place = small_disk("1m")
    more = ("tracking=none", "model.layers.0.hidden_size=200")
    assert "disk is full" in refused(python(*RUN, *SMALL, *more, cwd=place))
    assert not list((place / "runs").rglob("*model.pkl*"))
