"""What the store shows: in the terminal, in MLflow's pages, and when a run is repeated."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import time

import pytest
from browser import CHROMIUM, Browser
from commands import RUN, SMALL, client, python, refused, runs, start, succeeded

from nnjit.commands import compare
from nnjit.datasets.guitar import _ROOT as GUITAR

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]
COMPARE, REPRODUCE, UI = (("-m", f"nnjit.{name}") for name in ("compare", "reproduce", "ui"))
BARE = [argument for argument in SMALL if not argument.startswith("model=")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a sweep of six runs, and one run that diverged."""
    folder = tmp_path_factory.mktemp("views")
    done = python(*RUN, "-m", *BARE, "model=ff,rnn,gru", "seed=1,2", cwd=folder)
    assert done.returncode == 0, done.stderr
    refused(python(*RUN, *SMALL, "optimizer.learning_rate=1e38", "name=wild", cwd=folder))
    return folder


@pytest.fixture
def copied(place, tmp_path):
    """Return a copy of the store that may be damaged; its artifacts stay where they were."""
    (tmp_path / "runs").mkdir()
    shutil.copy(place / "runs" / "mlflow.db", tmp_path / "runs")
    return tmp_path


def called(*arguments):
    """Call ``nnjit.compare`` in this process, which has imported MLflow already."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            compare.main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue().splitlines(), error.getvalue().splitlines()


def compared(folder, *arguments):
    code, lines, errors = called(*arguments, f"root={folder / 'runs'}")
    assert (code, errors) == (0, [])
    return lines


def loaded(folder, *arguments):
    return json.loads("\n".join(compared(folder, *arguments, "format=json")))


def of(folder, **tags):
    """Return the finished run with these tags."""
    (found,) = (
        r
        for r in runs(folder)
        if r.info.status == "FINISHED"
        and all(r.data.tags.get(f"nnjit.{key}") == value for key, value in tags.items())
    )
    return found


def test_compare_shows_every_run_best_first(place):
    lines = compared(place)
    assert lines[0].startswith("7 runs: dataset karplus, split track")
    rows = [line for line in lines if re.search(r"model=\w+ seed=\d .*[\da-f]{8}$", line.strip())]
    assert len(rows) == 6
    for row in rows:
        found = next(r for r in runs(place) if r.info.run_id.startswith(row.split()[-1]))
        assert f"{found.data.metrics['final/val_accuracy']:.3f}" in row
        assert f"{found.data.metrics['final/test_precision']:.3f}" in row
    order = [r["final/val_accuracy"] for r in loaded(place)]
    assert order[-1] is None  # the one that diverged
    assert order[:-1] == sorted(order[:-1], reverse=True)
    assert any(line.startswith("failed ") and "the loss became" in line for line in lines)
    assert "python -m nnjit.ui, then http://127.0.0.1:5000/#/compare-runs?" in lines[-1]
    assert all(
        r.info.run_id in lines[-1] for r in runs(place) if r.data.tags["nnjit.kind"] == "run"
    )


def test_compare_filters_and_sorts(place):
    assert {r["model"] for r in loaded(place, "model=gru,ff", "status=FINISHED")} == {"gru", "ff"}
    assert [r["seed"] for r in loaded(place, "name=model=g*", "sort=-seed")] == ["1", "2"]
    assert len(loaded(place, "sweep=latest")) == 6
    parent = next(r for r in runs(place) if r.data.tags["nnjit.kind"] == "sweep").info.run_id
    assert len(loaded(place, f"sweep={parent[:10]}", "limit=2")) == 2
    best = loaded(place)[0]["final/val_accuracy"]
    where = f"metrics.`final/val_accuracy` >= {best}"
    assert {r["final/val_accuracy"] for r in loaded(place, f"where={where}")} == {best}
    losses = [r["final/val_loss"] for r in loaded(place, "sweep=latest", "sort=-val/loss")]
    assert losses == sorted(losses)


def test_compare_groups_and_files(place, tmp_path):
    rows = [line.split() for line in compared(place, "group=model", "sweep=latest")]
    assert {r[0] for r in rows if r[1:3] == ["2", "val"]} == {"ff", "rnn", "gru"}
    path = tmp_path / "table.csv"
    assert compared(place, f"out={path}", "columns=val/f1") == [f"7 rows in {path}"]
    with path.open() as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    for run in runs(place):
        if run.info.status == "FINISHED" and run.data.tags["nnjit.kind"] == "run":
            row = table[run.info.run_id]
            assert float(row["final/test_accuracy"]) == run.data.metrics["final/test_accuracy"]
            assert float(row["val/f1"]) == run.data.metrics["final/val_f1"]
            assert row["weights_digest"] == run.data.tags["nnjit.weights_digest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=lstm"], "no run has model=lstm: there are ff, gru, rnn"),
        (["sort=val/acuracy"], "did you mean val/accuracy?"),
        (["where=foo"], "where=foo does not work: Invalid clause"),
        (["sweep=abc"], "sweep=abc does not exist"),
        (["group=modl"], "no run has modl: did you mean model?"),
        (["out=nowhere/a.csv"], "out=nowhere/a.csv cannot be written"),
        (["root=elsewhere"], "there is no store at"),
    ],
)
def test_compare_refuses(arguments, message, place, monkeypatch):
    monkeypatch.chdir(place)
    code, _, errors = called(*arguments)
    assert code == 1
    assert len(errors) == 1
    assert message in errors[0]


def test_compare_in_a_process(place):
    lines = succeeded(python(*COMPARE, "sweep=latest", cwd=place))
    assert lines[0].startswith("6 runs: dataset karplus, split track")
    assert len(lines) > 8
    assert not any(line.endswith(" ") and "…" in line for line in lines)


@contextlib.contextmanager
def pages(folder, *arguments):
    """Run the pages, give their addresses, end them by Ctrl-C and see that nothing is left."""
    process = start(*UI, *arguments, cwd=folder)
    try:
        found = {}
        for line in process.stdout:
            name, _, address = line.partition(" ")
            found[name] = address.strip()
            if line.startswith("Ctrl-C"):
                break
        assert "runs" in found, process.stderr.read()
        yield found
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
        assert (process.returncode, said) == (0, "")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port(found["runs"])))
    finally:
        process.kill()
        process.communicate()


def port(address):
    return int(re.search(r":(\d+)/", address)[1])


def test_ui_takes_another_port_and_leaves_nothing(place):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # someone else has it
            taken.bind(("127.0.0.1", 5000))
            taken.listen()
        before = set(os.listdir(place))
        with pages(place) as found:
            assert port(found["runs"]) > 5000
        assert set(os.listdir(place)) == before


@pytest.mark.parametrize("numbers", [["SIGKILL"], ["SIGHUP"], ["SIGINT", "SIGINT"], ["SIGTERM"]])
def test_the_server_ends_however_the_command_does(numbers, place):
    process = start(*UI, cwd=place)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        number = port(lines[0])
        for name in numbers:
            process.send_signal(getattr(signal, name))
            time.sleep(0.02)
        process.communicate(timeout=300)
        until = time.monotonic() + 120
        while time.monotonic() < until and listens(number):
            time.sleep(0.1)
        assert not listens(number)
    finally:
        process.kill()
        process.communicate()


def listens(number):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


def test_ui_refuses(place, tmp_path):
    assert "there is no store at" in refused(python(*UI, cwd=tmp_path))
    assert not list(tmp_path.iterdir())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert f"port={number} is taken" in refused(python(*UI, f"port={number}", cwd=place))


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_pages_in_a_browser(place):
    """The list with its columns, the charts, a run with its figures, its model."""
    best = of(place, model="gru", seed="2")
    names = [f"model={model} seed={seed}" for model in ("ff", "rnn", "gru") for seed in (1, 2)]
    view = compared(place, "seed=2", "status=FINISHED", "view=Three architectures")[-1]
    with pages(place, f"run={best.info.run_id[:9]}") as found, Browser(2000, 1000) as page:
        columns = [f"{s}/{m}" for s in ("val", "test") for m in ("accuracy", "recall", "precision")]
        columns += [f"nnjit.{tag}" for tag in ("model", "dataset", "split", "seed")] + ["Duration"]
        page.open(found["runs"], *names, *columns, "karplus")
        assert page.text().index("val/accuracy") < page.text().index("nnjit.model")
        page.open(found["charts"], *names, "Validation", "Test", "final/val_recall")

        mine = view.partition("then ")[2].replace(":5000", f":{port(found['runs'])}")
        page.open(mine, "Three architectures", "final/val_recall", "3 matching runs")
        assert "model=ff seed=2" in page.text()
        assert "model=ff seed=1" not in page.text()

        page.open(
            found["run"], "python -m nnjit.run", "model=gru seed=2", "nnjit.split", "val/recall"
        )
        page.open(found["run"].replace("?", "/artifacts/figures/learning_curves.png?"), "figures/")
        drawn = "[...document.images].some(i => i.naturalWidth > 500)"
        page.until(drawn)
        page.open(found["run"], "About this run")
        link = "[...document.links].map(a => a.href).find(h => h.includes('/models/m-'))"
        page.until(link)
        last = best.data.metrics["val/loss"]  # the model is that of the last epoch
        page.open(page.run(link), "About this logged model", "Ready", f"{last:.12g}"[:10])


def same(done):
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_reproduce_elsewhere(place, tmp_path):
    """In another folder, with the newest run of the store and with the first digits of one."""
    run = of(place, model="ff", seed="2")
    lines = same(python(*REPRODUCE, run.info.run_id[:7], f"root={place}/runs", cwd=tmp_path))
    assert lines[0].startswith(f"run      {run.info.run_id} model=ff seed=2")
    assert f"weights  {run.data.tags['nnjit.weights_digest']}" in lines
    assert f"metrics  {run.data.tags['nnjit.metrics_digest']}" in lines
    assert lines[-1] == "the bits agree: weights, and 27 metrics in each of 3 epochs"
    threads = ("trainer.threads=1", f"root={place}/runs")
    assert same(python(*REPRODUCE, "latest", *threads, cwd=tmp_path))[-1] == lines[-1]


def change(folder, statement, *values):
    with contextlib.closing(sqlite3.connect(folder / "runs" / "mlflow.db")) as store:
        assert store.execute(statement, values).rowcount == 1
        store.commit()


def test_reproduce_names_the_first_difference(copied):
    run_id = of(copied, model="gru", seed="1").info.run_id
    _, found = client(copied)
    values = [m.value for m in found.get_metric_history(run_id, "test/loss")]
    step = "UPDATE metrics SET value = ? WHERE run_uuid = ? AND key = 'test/loss' AND step = 1"
    close = values[1] * (1 + 2**-52)
    with contextlib.closing(sqlite3.connect(copied / "runs" / "mlflow.db")) as store:
        assert store.execute(f"{step} AND value = ?", (close, run_id, values[1])).rowcount >= 1
        store.commit()
    change(
        copied,
        "UPDATE tags SET value = '0.1' WHERE run_uuid = ? AND key = 'version.numba'",
        run_id,
    )
    done = python(*REPRODUCE, run_id, cwd=copied)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    told = f"the bits differ, first in epoch 1, test/loss: {close!r} then, {values[1]!r} now"
    assert lines[-1] == told
    assert any(line.startswith("changed  version.numba: 0.1 then, ") for line in lines)


def test_reproduce_puts_on_record(copied, tmp_path):
    run = of(copied, model="rnn", seed="1")
    same(python(*REPRODUCE, run.info.run_id, "record=true", cwd=copied))
    (again,) = (r for r in runs(copied) if "nnjit.reproduces" in r.data.tags)
    assert again.data.tags["nnjit.reproduces"] == run.info.run_id
    assert again.info.status == "FINISHED"
    for digest in ("weights_digest", "metrics_digest", "dataset_digest"):
        assert again.data.tags[f"nnjit.{digest}"] == run.data.tags[f"nnjit.{digest}"]
    # Who observes the run again is up to the command, which makes places absolute.
    apart = ("callbacks.", "dataset.cache_dir")
    params, before = (
        {k: v for k, v in r.data.params.items() if not k.startswith(apart)} for r in (again, run)
    )
    assert params == before
    assert same(python(*REPRODUCE, "latest", cwd=copied))[-1].startswith("the bits agree")


def test_reproduce_with_paths_and_a_drawn_seed(tmp_path, music):
    options = ("dataset=folder", "dataset.root=music", "dataset.rate=200", "dataset.sizes=[1,1,0]")
    more = ("dataset.n_clips=null", "model=rnn", "trainer.epochs=1", "seed=null")
    succeeded(python(*RUN, *options, *more, cwd=tmp_path))
    (run,) = runs(tmp_path)
    seed = run.data.tags["nnjit.seed"]
    assert run.info.run_name.endswith(f"seed={seed}")
    told = run.data.tags["mlflow.note.content"].splitlines()
    (recipe,) = (line for line in told if line.startswith("python -m nnjit.run "))
    assert recipe.startswith("python -m nnjit.run dataset=folder dataset.root=music ")
    assert recipe.endswith(f"trainer.epochs=1 seed={seed}")
    store, other = f"root={tmp_path}/runs", tmp_path / "other"
    other.mkdir()
    assert same(python(*REPRODUCE, store, "latest", cwd=other))[-1].startswith("the bits agree")

    (tmp_path / "music").rename(other / "moved")
    error = refused(python(*REPRODUCE, store, "latest", cwd=other))
    assert "/music is no folder: name one that exists" in error
    moved = (store, "latest", "dataset.root=moved")
    assert same(python(*REPRODUCE, *moved, cwd=other))[-1].startswith("the bits agree")
    first = sorted((other / "moved").rglob("*.ogg"))[0]
    shutil.copy(sorted(GUITAR.glob(f"{first.parent.name}/*.ogg"))[-1], first)
    error = refused(python(*REPRODUCE, *moved, cwd=other))
    assert f"has changed: its digest was {run.data.tags['nnjit.dataset_digest']}" in error


def test_reproduce_refuses(place, copied):
    wild = next(r for r in runs(copied) if r.info.status == "FAILED").info.run_id
    assert "is FAILED: only a finished run" in refused(python(*REPRODUCE, wild, cwd=copied))
    assert "run=abc does not exist" in refused(python(*REPRODUCE, "abc", cwd=copied))
    run = of(copied, model="ff", seed="1").info.run_id
    nowhere = (copied / "gone").as_uri()
    change(copied, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", nowhere, run)
    assert "has no config.yaml among its artifacts" in refused(python(*REPRODUCE, run, cwd=copied))
