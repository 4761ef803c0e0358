"""Interrupts at random moments: everything ends soon, and what was begun goes on to the same bits.

``NNJIT_INTERRUPTS=200`` makes that many (in all, over the ways in), ``NNJIT_SEED=N`` others; short
by default. A summary is printed with ``-s``.
"""

import os
import queue
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from commands import RUN, python, runs, start, succeeded
from fitting import CASES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

TOTAL = int(os.environ.get("NNJIT_INTERRUPTS", "20"))
SEED = int(os.environ.get("NNJIT_SEED", "1"))
LIMIT = float(os.environ.get("NNJIT_LIMIT", "60"))  # seconds, after which it hangs
FITTING = Path(__file__).with_name("fitting.py")
SMALL = (
    *("dataset=karplus", "dataset.rate=1000", "dataset.duration=0.2", "dataset.n_clips=48"),
    "checkpoint_every=0.2",
)
ONCE, AGAIN = ("SIGINT", "SIGTERM", "SIGHUP"), 0.03


def share(part):
    """Return how many interrupts a way in gets."""
    return max(1, round(TOTAL * part))


def interrupt(process, rng, names=ONCE):
    """Send a signal, half of the time twice within 30 ms; return the moment."""
    now = time.monotonic()
    name = rng.choice(names)
    for delay in (0, rng.uniform(0, AGAIN)) if rng.random() < 0.5 else (0,):
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(getattr(signal, name))
    return now


def until_signals_are_heard(process):
    """Wait until Python is there and nnjit has put its handlers in place, or the process ended."""
    term = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = re.search(r"SigCgt:\s*(\w+)", status)
        if caught and int(caught[1], 16) & term:
            return
        time.sleep(0.01)


def tell(what, times):
    slowest = ", ".join(f"{t:.2f}" for t in sorted(times, reverse=True)[:3])
    print(f"\n{what}: {len(times)} interrupts, the slowest ended after {slowest} s")
    assert max(times) < LIMIT


class Lines:
    """The lines that a process prints, with a time for the next."""

    def __init__(self, process):
        self._lines = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self._lines.put(line.strip())
        self._lines.put(None)

    def next(self, timeout):
        """Return the next line, None at the end; queue.Empty where none comes."""
        return self._lines.get(timeout=timeout)


@pytest.mark.parametrize("case", CASES)
def test_python_api(case, tmp_path):
    rng, times, digests = random.Random(f"{SEED} {case}"), [], []
    count = share(0.6 / len(CASES))
    whole = python(FITTING, case, 2, cwd=tmp_path)
    expected = succeeded(whole)[-1]
    (tmp_path / "checkpoint.pkl").unlink()
    process = lines = None
    while len(times) < count or not digests:
        if process is None:
            process = start(FITTING, case, rng.choice([1, 2, 3, 4]), cwd=tmp_path)
            lines = Lines(process)
        try:
            line = lines.next(300)
            if line == "begin" and len(times) < count:
                time.sleep(rng.uniform(0, 0.8))
                began = interrupt(process, rng)
                line = lines.next(LIMIT)
                times.append(time.monotonic() - began)
        except queue.Empty:
            process.kill()
            raise AssertionError(f"hangs: {process.communicate()}") from None
        if line is not None and line.startswith("done"):
            digests.append(line)
            process.communicate(timeout=300)
            (tmp_path / "checkpoint.pkl").unlink()
            process = None
        elif line is None:  # SIGTERM and SIGHUP end the process
            process.communicate(timeout=300)
            assert process.returncode < 0 or process.returncode in (1, 130)
            process = None
    if process is not None:
        process.kill()
        process.communicate()
    assert set(digests) == {expected}
    tell(case, times)


def digest(folder):
    (run,) = runs(folder)
    return run.info.status, run.data.tags.get("nnjit.weights_digest")


@pytest.mark.parametrize("model", ["gru", "rnn"])
def test_command(model, tmp_path):
    rng, times = random.Random(f"{SEED} {model}"), []
    wide = ("model.layers.0.hidden_size=64",) if model == "gru" else ()
    arguments = (*RUN, *SMALL, f"model={model}", *wide, "trainer.epochs=40")
    (tmp_path / "whole").mkdir()
    succeeded(python(*arguments, cwd=tmp_path / "whole"))
    _, expected = digest(tmp_path / "whole")
    folder, tries, finished = tmp_path / "0", 0, 0
    folder.mkdir()
    while len(times) < share(0.1) or not finished:
        known = (folder / "runs").exists() and runs(folder)
        threads = f"trainer.threads={rng.choice([1, 2, 3, 4])}"
        given = (*RUN, "resume=latest", threads) if known else (*arguments, threads)
        process = start(*given, cwd=folder)
        hit = len(times) < share(0.1) and process.poll() is None
        if hit:
            until_signals_are_heard(process)
            if rng.random() < 0.8:  # else it may be importing
                process.stdout.readline()
            time.sleep(rng.uniform(0, 1.5))
            began = interrupt(process, rng)
        out, err = process.communicate(timeout=300 if not hit else LIMIT + 60)
        if hit and process.returncode != 0:
            times.append(time.monotonic() - began)
        if hit and process.returncode > 0:
            assert process.returncode == 130, (given, out, err)
            assert err.endswith("nnjit: interrupted\n"), err
            assert "Traceback" not in err
            found = (folder / "runs").exists() and runs(folder)
            if found:
                assert found[0].info.status == "KILLED"
            if found and not known:  # what goes on may be interrupted before it has begun
                assert "resume   python -m nnjit.run resume=" in out, (given, out)
            continue
        # Below 0 the signal came when all was done.
        assert process.returncode == 0 or (hit and process.returncode < 0), (given, out, err)
        assert digest(folder) == ("FINISHED", expected)
        finished += 1
        tries += 1
        folder = tmp_path / str(tries)
        folder.mkdir()
    tell(f"command, {model}", times)


SWEEPS = {
    "basic": ("-m", "model=rnn", "seed=1,2,3"),
    "joblib": ("-m", "model=rnn", "seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("-m", "model=rnn", "seed=1,2", "hydra/launcher=submitit_local"),
    "search": ("-m", "search=gru", "hydra.sweeper.n_trials=3"),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps(name, tmp_path):
    if name == "submitit_local":
        pytest.importorskip("submitit")
    rng, times = random.Random(f"{SEED} {name}"), []
    arguments = (*RUN, *SWEEPS[name], *SMALL, "trainer.epochs=30")
    count = share(0.05)
    for i in range(-(-count // 3)):
        folder = tmp_path / str(i)
        folder.mkdir()
        given = arguments
        for _ in range(3):
            process = start(*given, cwd=folder, new_session=True)
            process.stdout.readline()
            time.sleep(rng.uniform(0, 5))
            began = interrupt(process, rng)
            out, err = process.communicate(timeout=LIMIT + 60)
            if process.returncode == 0:
                break
            times.append(time.monotonic() - began)
            if process.returncode < 0:  # it was over, as its last line says
                assert "\nfiles    " in out, (given, out, err)
                break
            assert process.returncode == 130, (given, out, err)
            # Submitit's own processes may be interrupted while they import.
            assert name == "submitit_local" or "Traceback" not in err, err
            assert _left(process.pid) == []
            if "resume   " not in out:
                continue  # it had not begun
            assert not [r for r in runs(folder) if r.info.status == "RUNNING"]
            given = (*RUN, "-m", "resume=latest")
        else:
            succeeded(python(*given, cwd=folder))
        # A search that was interrupted before its study began, begins anew under another parent.
        kinds = ("run",) if name == "search" else ("run", "sweep")
        status = {r.info.status for r in runs(folder) if r.data.tags["nnjit.kind"] in kinds}
        assert status == {"FINISHED"}
    if times:
        tell(f"sweep, {name}", times)


def _left(session):
    """Return the processes of a session that are still there some seconds later."""
    command, until = ["ps", "-s", str(session), "-o", "stat=,pid=,args="], time.monotonic() + 10
    while True:
        found = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        left = [line for line in found if not line.startswith("Z")]  # ended, nobody asked how
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.1)


def test_notebook(tmp_path):
    manager_module = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    rng, times, digests = random.Random(f"{SEED} notebook"), [], []
    manager, client = manager_module.start_new_kernel(cwd=str(tmp_path))
    try:
        run_cell(client, f"import sys; sys.path.insert(0, {str(FITTING.parent)!r})\nimport fitting")
        run_cell(client, "fitting.fit('gru_64', 2, fitting.Path('whole.pkl'))", digests)
        while len(times) < share(0.1) or len(digests) < 2:
            threads = rng.choice([1, 2, 3, 4])
            code = f"fitting.fit('gru_64', {threads})"
            if len(times) >= share(0.1):
                run_cell(client, code, digests)
                break
            message = client.execute(code, stop_on_error=False)
            time.sleep(rng.uniform(0, 0.6))
            began = time.monotonic()
            for delay in (0, rng.uniform(0, AGAIN))[: rng.choice([1, 2])]:
                time.sleep(delay)
                manager.interrupt_kernel()
            try:
                reply = client._recv_reply(message, timeout=LIMIT)
            except TimeoutError:  # the kernel was not in the cell, and dropped it
                run_cell(client, "1")
                continue
            times.append(time.monotonic() - began)
            if reply["content"]["status"] == "ok":
                (tmp_path / "checkpoint.pkl").unlink()
            elif reply["content"]["status"] == "error":  # else it was not begun
                assert reply["content"]["ename"] in ("Interrupted", "KeyboardInterrupt"), reply
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert len(set(digests)) == 1
    tell("notebook", times)


def run_cell(client, code, results=None):
    """Run a cell to its end."""

    def hear(message):
        if message["msg_type"] == "execute_result" and results is not None:
            results.append(message["content"]["data"]["text/plain"])

    reply = client.execute_interactive(code, timeout=300, output_hook=hear)
    assert reply["content"]["status"] == "ok", reply
