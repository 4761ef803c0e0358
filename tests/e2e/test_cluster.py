"""Sweeps on other machines' launchers, and stores behind servers; real ones, on this machine."""

import time

import pytest
from commands import PREDICT, RUN, SMALL, python, refused, runs, start, succeeded
from conftest import GUITAR
from servers import PASSWORD, free_port, mlflow_server, postgres, s3

from nnjit.tracking.client import open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]
SHORT = (*SMALL, "trainer.epochs=2")
REAL = ("dataset.rate=200", "dataset.n_clips=64", "model=rnn", "trainer.epochs=2")
KILLED = """
import os, signal
from nnjit.layers import Dropout

class Killed(Dropout):
    def forward(self, *arguments, **more):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def all_runs(uri):
    """Return the runs in a store, newest first, without those that only hold others together."""
    _, client = open_store(uri)
    ids = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(ids, "tags.`nnjit.kind` = 'run'"))


def jobs(folder):
    """Return the runs of a folder that have no others below them."""
    return [r for r in runs(folder) if r.data.tags["nnjit.kind"] == "run"]


@pytest.fixture(scope="module", params=["submitit_local", "ray"])
def launcher(request):
    pytest.importorskip(request.param.partition("_")[0])
    return request.param


def test_sweep_in_other_processes(launcher, tmp_path):
    done = python(*(*RUN, "-m", f"hydra/launcher={launcher}", *SHORT, "seed=1,2,3,4"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = jobs(tmp_path)
    (parent,) = (r for r in runs(tmp_path) if r.data.tags["nnjit.kind"] == "sweep")
    assert {r.data.tags["mlflow.parentRunId"] for r in found} == {parent.info.run_id}
    assert [r.info.status for r in found] == ["FINISHED"] * 4
    assert {r.data.tags["nnjit.seed"] for r in found} == set("1234")
    assert {r.data.tags["threads"] for r in found} == {"1"}
    assert len({r.data.tags["nnjit.weights_digest"] for r in found}) == 4


def test_a_killed_job_is_told_and_the_others_go_on(launcher, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    targets = "model.layers.3._target_=killed.Killed,nnjit.layers.Dropout"
    done = python(
        *(*RUN, "-m", f"hydra/launcher={launcher}", *SHORT, "trusted=[killed]", targets),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1, done.stderr
    assert "FAILED: its process was killed" in done.stdout
    found = {r.data.tags["nnjit.job"]: r for r in jobs(tmp_path)}
    assert [found[number].info.status for number in "01"] == ["FAILED", "FINISHED"]
    assert "was killed" in found["0"].data.tags["nnjit.failure"]


@pytest.fixture(scope="module")
def database():
    with postgres() as uri:
        yield uri


def test_tracking_server_on_postgres(database, tmp_path):
    """A run and a parallel sweep go through the server; its model judges recordings elsewhere."""
    store, here, there = tmp_path / "store", tmp_path / "here", tmp_path / "there"
    for folder in (store, here, there):
        folder.mkdir()
    with mlflow_server(database, store, tmp_path) as uri:
        lines = succeeded(python(*RUN, *REAL, f"tracking.uri={uri}", cwd=here))
        assert lines[-2].startswith(f"open     {uri}/#/experiments/")
        (run,) = all_runs(uri)
        assert run.info.status == "FINISHED"
        song = next(GUITAR.glob("el_senator/*.ogg"))
        told = succeeded(python(*PREDICT, "run=latest", f"uri={uri}", f"audio={song}", cwd=there))
        assert told[0].startswith(f"model  run {run.info.run_id}: ")
        assert not list(there.iterdir())
        assert not (here / "runs" / "artifacts").exists()
        assert list(store.rglob("model.pkl"))

        options = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"tracking.uri={uri}")
        done = python(*RUN, "-m", *options, *SHORT, "seed=1,2,3,4", cwd=here)
        assert done.returncode == 0, done.stderr
        assert [r.info.status for r in all_runs(uri)] == ["FINISHED"] * 5


def test_first_runs_at_once_into_an_empty_database(database, tmp_path):
    uri = fresh(database)
    both = [start(*RUN, *SHORT, f"seed={s}", f"tracking.uri={uri}", cwd=tmp_path) for s in (1, 2)]
    written = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], written
    assert [r.info.status for r in all_runs(uri)] == ["FINISHED"] * 2
    assert list((tmp_path / "runs" / "artifacts").rglob("model.pkl"))
    assert PASSWORD not in "".join(out + err for out, err in written)
    assert "lab:***@127.0.0.1" in written[0][0]
    assert PASSWORD.encode() not in dump(uri)


def fresh(uri):
    """Make another database on the same server."""
    import psycopg

    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    return uri.rpartition("/")[0] + "/fresh"


def dump(uri):
    """Return all that a database holds."""
    import psycopg

    found = b""
    with psycopg.connect(uri) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (table,) in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                found += repr(row).encode()
    return found


def test_artifacts_in_s3(tmp_path):
    with s3(tmp_path) as (settings, bucket):
        store = f"sqlite:///{tmp_path}/other.db"
        options = (f"tracking.uri={store}", "tracking.artifacts=s3://lab/nnjit")
        succeeded(python(*RUN, *REAL, *options, cwd=tmp_path, **settings))
        (run,) = all_runs(store)
        keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="lab")["Contents"]]
        assert f"nnjit/{run.info.run_id}/artifacts/figures/learning_curves.png" in keys
        assert any(key.endswith("model.pkl") for key in keys)
        song = next(GUITAR.glob("el_senator/*.ogg"))
        told = python(*PREDICT, f"uri={store}", f"audio={song}", cwd=tmp_path, **settings)
        assert "mean probability" in succeeded(told)[-2]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_silent_server_is_told_in_seconds(scheme, tmp_path):
    user = f"lab:{PASSWORD}@" if scheme == "postgresql" else ""
    uri = f"{scheme}://{user}127.0.0.1:{free_port()}/x"
    began = time.perf_counter()
    error = refused(python(*RUN, *SHORT, f"tracking.uri={uri}", cwd=tmp_path))
    assert time.perf_counter() - began < 100  # MLflow itself tries for minutes
    assert error.startswith(f"nnjit: cannot open the store {scheme}://")
    assert PASSWORD not in error
