"""Commands as a person gives them, each in a process and a folder of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

RUN, PREDICT = ("-m", "nnjit.run"), ("-m", "nnjit.predict")
SMALL = (
    "dataset=karplus",
    "dataset.rate=1000",
    "dataset.duration=0.2",
    "dataset.n_clips=48",
    "model=rnn",
    "trainer.epochs=3",
)
_OURS = ("HYDRA", "MLFLOW", "NNJIT", "COLUMNS", "FORCE_COLOR", "PYTHONPATH", "PYTEST")
# stops.py: a callback that ends a run as Ctrl-C does, in its second epoch, once in a folder.
STOP = """
from pathlib import Path
from nnjit import Callback

class Stop(Callback):
    def on_batch_end(self, progress):
        if progress.position.epoch == 1 and not Path("stopped").exists():
            Path("stopped").touch()
            raise KeyboardInterrupt
"""


def environment(**more):
    """Return the environment without what would change a command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    return {**kept, **more}


def python(*arguments, cwd, **more):
    """Run Python in a folder and return what came of it."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
    )


def start(*arguments, cwd, new_session=False, **more):
    """Start Python in a folder; in a session of its own it can be killed with all its workers."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
        # A child of a shell's background job would inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def succeeded(done):
    """Return the lines of a command that must have worked without a word on stderr."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def refused(done, code=1):
    """Return the error of a command that must have failed with one line, after any warnings."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if not line.startswith("nnjit: warning: ")]
    assert len(errors) == 1, done.stderr
    assert lines[-1] == errors[0]
    assert errors[0].startswith("nnjit: ")
    return errors[0]


def client(folder, root="runs"):
    """Return MLflow and a client of the store in a folder."""
    from nnjit.tracking import store_uri
    from nnjit.tracking.client import open_store

    return open_store(store_uri(Path(folder) / root))


def runs(folder, root="runs"):
    """Return the runs in the store of a folder, newest first."""
    _, found = client(folder, root)
    experiments = [e.experiment_id for e in found.search_experiments()]
    return list(found.search_runs(experiments))
