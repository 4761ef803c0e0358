import csv
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from commands import RUN, SMALL, client, python, refused, runs, start, succeeded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

SWEEP = (*RUN, "-m", *SMALL)  # what is given twice counts as given last
TWO_WORKERS = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
ENDLESS = 10_000_000
SETS, METRICS = ("val", "test"), ("accuracy", "recall", "precision")


def split(folder):
    """Return the parent and its children by number, from a store with one sweep."""
    found = runs(folder)
    (parent,) = (r for r in found if r.data.tags["nnjit.kind"] == "sweep")
    children = [r for r in found if r.data.tags["nnjit.kind"] == "run"]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} <= {parent.info.run_id}
    return parent, {int(r.data.tags["nnjit.job"]): r for r in children}


def rows(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def artifact(folder, run, path):
    mlflow, _ = client(folder)
    return mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/{path}")


def sweep_folder(folder):
    (found,) = (folder / "runs" / "sweeps").glob("*/*")
    return found


def record(folder, number):
    """Return what is on file of a job, once its sweep and the job have begun."""
    (path,) = folder.glob(f"runs/sweeps/*/*/records/{number}.json")
    return json.loads(path.read_text())


def wait_for(process, folder, numbers, status="RUNNING", seconds=600):
    """Wait until these jobs have a status and, where they run, have trained a while."""
    end = time.monotonic() + seconds
    for number in numbers:
        while True:
            try:
                if record(folder, number)["status"] == status:
                    break
            except ValueError:
                pass
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, f"job {number} was never {status}"
            time.sleep(0.05)
    while status == "RUNNING" and not all(trains(folder, n) for n in numbers):
        assert time.monotonic() < end
        time.sleep(0.05)


def trains(folder, number):
    (output,) = folder.glob(f"runs/sweeps/*/*/{number}/output.txt")
    return "epoch 20/" in output.read_text()


@pytest.fixture
def begin(tmp_path):
    """Start a sweep in the test's folder, and see that it ends with the test."""
    begun = []

    def launch(*arguments):
        begun.append(start(*RUN, "-m", *arguments, cwd=tmp_path))
        return begun[-1]

    yield launch
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """Return the folder of the sweep that the README begins with, and what it printed."""
    place = tmp_path_factory.mktemp("nine")
    lines = succeeded(python(*SWEEP, "model=ff,rnn,gru", "seed=1,2,3", cwd=place))
    return place, lines


def test_nine_runs_under_one_parent(nine):
    parent, children = split(nine[0])
    assert sorted(children) == list(range(9))
    assert {r.info.status for r in (parent, *children.values())} == {"FINISHED"}
    assert parent.info.run_name == "model=ff,rnn,gru seed=1,2,3"
    assert (
        "nnjit.run -m dataset=karplus dataset.rate=1000" in parent.data.tags["mlflow.note.content"]
    )
    assert children[5].info.run_name == "model=rnn seed=3"
    assert children[5].data.tags["nnjit.seed"] == "3"


def test_table_is_the_mean_of_the_runs(nine):
    place, lines = nine
    _, children = split(place)
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines if line.startswith(" model=")]
    assert [(row[0], row[2]) for row in cells[:3]] == [(row[0], "val") for row in cells[:3]]
    values = {}
    for row in cells:
        name, n, of = row[:3]
        mine = [r for r in children.values() if r.info.run_name.startswith(f"{name} ")]
        shown = [r.data.metrics[f"final/{of}_accuracy"] for r in mine]
        mean = sum(shown) / 3
        sd = (sum((v - mean) ** 2 for v in shown) / 2) ** 0.5
        assert n == "3"
        assert row[3] == f"{mean:.3f} ± {sd:.3f}"
        low, high = mean - 4.302653 * sd / 3**0.5, mean + 4.302653 * sd / 3**0.5
        assert row[4] == f"{max(0, low):.3f} to {min(1, high):.3f}"
        values[of, name] = mean
    assert len(values) == 6
    best_first = [values["val", row[0]] for row in cells[:3]]
    assert best_first == sorted(best_first, reverse=True)
    assert max(len(line) for line in lines if line.startswith(" ")) <= 120


def test_lines_of_jobs_are_short_and_whole(nine):
    lines = [line for line in nine[1] if line.startswith("[")]
    assert len(lines) == 9
    assert re.fullmatch(
        r"\[4/9\] model=rnn seed=1  val accuracy [\d.]+  recall [\d.]+  precision [\d.]+  [\d.]+ s",
        lines[3],
    )
    output = (sweep_folder(nine[0]) / "3" / "output.txt").read_text()
    assert "epoch 2/2" in output
    assert "majority baseline" in output


def test_files_on_the_parent(nine):
    parent, children = split(nine[0])
    each = rows(artifact(nine[0], parent, "sweep.csv"))
    assert [(r["model"], r["seed"]) for r in each][:4] == [
        ("ff", "1"),
        ("ff", "2"),
        ("ff", "3"),
        ("rnn", "1"),
    ]
    for row in each:
        stored = children[int(row["job"])].data.metrics["final/val_accuracy"]
        assert float(row["final/val_accuracy"]) == stored
    summary = rows(artifact(nine[0], parent, "summary.csv"))
    assert len(summary) == 3
    mean = float(summary[0]["final/val_accuracy_mean"])
    name = summary[0]["variant"].replace("=", "_")
    assert parent.data.metrics[f"{name}/val_accuracy_mean"] == pytest.approx(mean)
    picture = Path(artifact(nine[0], parent, "figures/summary.png")).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")


def test_without_a_store(tmp_path):
    watch = "import sys, atexit\natexit.register(lambda: print('mlflow' in sys.modules))\n"
    watch += "import runpy\nrunpy.run_module('nnjit.run', run_name='__main__')"
    options = ("-m", *SMALL, "seed=1,2", "tracking=none", *TWO_WORKERS)
    kernels = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}  # compiled by both workers at once
    lines = succeeded(python("-c", watch, *options, cwd=tmp_path, **kernels))
    assert lines[-1] == "False"
    assert any(line.startswith(" model=rnn      2  val ") for line in lines)
    assert len(rows(sweep_folder(tmp_path) / "sweep.csv")) == 2
    assert not list(tmp_path.rglob("mlflow.db"))


def test_failing_jobs_do_not_stop_the_others(tmp_path):
    options = ("trainer.epochs=0,3", "optimizer.learning_rate=0.1,1e38")
    done = python(*SWEEP, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    parent, children = split(tmp_path)
    status = [children[n].info.status for n in range(4)]
    assert status == ["FAILED", "FAILED", "FINISHED", "FAILED"]
    assert parent.info.status == "FAILED"
    assert "trainer.epochs=0" in children[0].data.tags["nnjit.failure"]
    diverged = children[3].data.tags["nnjit.failure"]
    assert re.search(r"the loss became (nan|inf) in epoch 0, ", diverged)
    table, _, after = done.stdout.partition("Baseline: ")
    assert " trainer.epochs=3 optimizer.learning_rate=0.1 " in table
    assert after.count("FAILED: ") == 3
    assert "in epoch 0, " in after


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=ff,gruu"], "model=gruu does not exist: did you mean gru?"),
        (["tracking.root=a,b"], "all jobs of a sweep go to one store"),
        (["seed=1", "resume=latest"], "a sweep is resumed as it began"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_what_cannot_work_is_told_in_one_line(overrides, message, tmp_path):
    assert message in refused(python(*RUN, "-m", *overrides, cwd=tmp_path))


def test_killed_worker_loses_its_own_job_alone(begin, tmp_path):
    process = begin(*SMALL, f"trainer.epochs={ENDLESS},3", "seed=1,2", *TWO_WORKERS)
    wait_for(process, tmp_path, [0, 1])
    for number in (0, 1):
        os.kill(record(tmp_path, number)["pid"], signal.SIGKILL)
    out, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (1, "")
    assert out.count("FAILED: its process was killed (SIGKILL)") == 4  # when, and at the end
    parent, children = split(tmp_path)
    assert [children[n].info.status for n in range(4)] == ["FAILED"] * 2 + ["FINISHED"] * 2
    assert children[0].data.tags["nnjit.failure"] == "its process was killed (SIGKILL)"
    assert parent.info.status == "FAILED"


@pytest.mark.parametrize("launcher", [(), TWO_WORKERS], ids=["basic", "joblib"])
def test_ctrl_c_closes_all_and_resume_runs_what_is_missing(launcher, begin, tmp_path):
    recipes = tmp_path / "conf" / "experiment"
    recipes.mkdir(parents=True)
    text = "# @package _global_\ntrainer: {{epochs: {}}}\n"
    (recipes / "short.yaml").write_text(text.format(3))
    (recipes / "long.yaml").write_text(text.format(ENDLESS))
    small = [option for option in SMALL if not option.startswith("trainer.epochs")]
    options = ("experiment=short,long", "seed=1,2", *launcher)
    process = begin("--config-dir", "conf", *small, *options)
    wait_for(process, tmp_path, [0, 1], "FINISHED")
    wait_for(process, tmp_path, [2, 3] if launcher else [2])
    os.kill(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (130, "nnjit: interrupted\n")
    parent, children = split(tmp_path)
    assert parent.info.status == "KILLED"
    assert [children[n].info.status for n in (0, 1, 2)] == ["FINISHED", "FINISHED", "KILLED"]
    assert "RUNNING" not in {r.info.status for r in children.values()}
    (command,) = (line for line in out.splitlines() if line.startswith("resume   "))
    arguments = command.split()[2:]
    assert arguments[-3:] == [f"resume={parent.info.run_id}", "--config-dir", "conf"]
    before = [children[n].info.run_id for n in (0, 1)]
    (recipes / "long.yaml").write_text(text.format(4))
    lines = succeeded(python(*arguments, cwd=tmp_path))
    again, children = split(tmp_path)
    assert (again.info.run_id, again.info.status) == (parent.info.run_id, "FINISHED")
    assert [children[n].info.status for n in range(4)] == ["FINISHED"] * 4
    assert [children[n].info.run_id for n in (0, 1)] == before
    assert len(children) == 4
    begun = [m[1] for line in lines if (m := re.match(r"\[(\d)/4\]", line))]
    assert sorted(begun) == ["3", "4"]
    assert len(rows(artifact(tmp_path, again, "sweep.csv"))) == 4
    assert "has finished" in refused(python(*arguments, cwd=tmp_path))


def test_killed_sweep_resumes_and_its_workers_do_not_stay(begin, tmp_path):
    options = (f"trainer.epochs=3,{ENDLESS}", "tracking=none", *TWO_WORKERS)
    process = begin(*SMALL, *options)
    wait_for(process, tmp_path, [0], "FINISHED")
    wait_for(process, tmp_path, [1])
    folder = sweep_folder(tmp_path)
    error = refused(python(*RUN, "-m", f"resume={folder}", cwd=tmp_path))
    assert "is still running" in error
    pid = record(tmp_path, 1)["pid"]
    process.kill()
    process.communicate()  # its workers hold the other end until they are gone
    end = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, "a worker outlived its sweep"
        time.sleep(0.1)
    assert record(tmp_path, 1)["status"] == "KILLED"


def test_many_short_jobs_at_once_from_an_absent_store(tmp_path):
    options = ("seed=range(64)", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4")
    lines = succeeded(python(*SWEEP, *options, cwd=tmp_path))
    parent, children = split(tmp_path)
    assert sorted(children) == list(range(64))
    assert {r.info.status for r in (parent, *children.values())} == {"FINISHED"}
    assert {r.data.tags["nnjit.seed"] for r in children.values()} == {str(n) for n in range(64)}
    shares = {int(r.data.tags["threads"]) for r in children.values()}
    assert shares == {max(1, len(os.sched_getaffinity(0)) // 4)}
    assert sum(bool(re.match(r"\[\d+/64\] seed=\d+  val accuracy", n)) for n in lines) == 64
    assert len({len(r.data.metrics) for r in children.values()}) == 1
