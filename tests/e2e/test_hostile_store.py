"""Stores that somebody else has written to, and the commands that read them.

Each attack would import or call ``evil``, a module beside the store, which makes a folder.
"""

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import yaml
from commands import PREDICT, RUN, SMALL, client, python, refused, runs, start, succeeded

from nnjit.storage.records import SweepManifest
from nnjit.training.checkpoint import FORMAT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

EVIL = """
import os, nnjit
os.makedirs("made", exist_ok=True)
class Model(nnjit.layers.Dense): pass
def _load_pyfunc(path): pass
"""
REPRODUCE = ("-m", "nnjit.reproduce")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a finished run, one that was interrupted, and a sweep that failed."""
    place = tmp_path_factory.mktemp("store")
    succeeded(python(*RUN, *SMALL, "trainer.threads=1", cwd=place))
    sweep = ("-m", *SMALL, "optimizer.learning_rate=0.1,1e38", "trainer.threads=1")
    assert python(*RUN, *sweep, cwd=place).returncode == 1
    endless = [o for o in SMALL if not o.startswith("trainer.epochs")]
    process = start(*RUN, *endless, "trainer.epochs=100000", "trainer.threads=1", cwd=place)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            process.terminate()
            break
    process.communicate(timeout=300)
    assert process.returncode == 130
    (place / "evil.py").write_text(EVIL)
    return place


@pytest.fixture
def store(trained, tmp_path):
    """Return a copy that a test may alter; nothing of it may call what is evil."""
    place = tmp_path / "store"
    shutil.copytree(trained, place)
    with contextlib.chdir(place), pytest.warns(UserWarning, match="its addresses follow"):
        client(place)
    yield place
    assert not (place / "made").exists()


def find(store, kind, status):
    _, found = client(store)
    (run,) = (
        r
        for r in runs(store)
        if (r.data.tags["nnjit.kind"], r.info.status) == (kind, status)
        and "mlflow.parentRunId" not in r.data.tags
    )
    return found, run


def forge(path, out, **change):
    """Write a checkpoint whose configuration builds what is evil."""
    content = FORMAT.read(path)
    config = content["about"]["config"]
    config["model"]["layers"][-1]["_target_"] = "evil.Model"
    config |= change
    out.parent.mkdir(parents=True, exist_ok=True)
    FORMAT.write(out, content)


def test_a_forged_checkpoint_elsewhere(store, tmp_path):
    found, run = find(store, "run", "KILLED")
    forge(Path(run.data.tags["nnjit.checkpoint"]), tmp_path / "evil" / "checkpoint.pkl")
    found.set_tag(run.info.run_id, "nnjit.checkpoint", str(tmp_path / "evil" / "checkpoint.pkl"))
    for which in ("latest", run.info.run_id):
        error = refused(python(*RUN, f"resume={which}", cwd=store))
        assert f"give resume={tmp_path}/evil/checkpoint.pkl" in error
    assert [p.name for p in (tmp_path / "evil").iterdir()] == ["checkpoint.pkl"]
    error = refused(python(*RUN, f"resume={tmp_path}/evil/checkpoint.pkl", cwd=store))
    assert "evil.Model is not of nnjit: add trusted=[evil]" in error


def test_a_forged_checkpoint_in_the_store_trusts_nobody(store):
    _, run = find(store, "run", "KILLED")
    path = Path(run.data.tags["nnjit.checkpoint"])
    forge(path, path, trusted=["evil"])
    error = refused(python(*RUN, "resume=latest", cwd=store))
    assert "the run builds classes of evil: add trusted=[evil] if you trust it" in error


def test_with_trust_it_would_run(store):
    _, run = find(store, "run", "KILLED")
    path = Path(run.data.tags["nnjit.checkpoint"])
    forge(path, path, trusted=["evil"])
    python(*RUN, "resume=latest", "trusted=[evil]", cwd=store)
    assert (store / "made").exists(), "the attack does nothing, so the tests show nothing"
    (store / "made").rmdir()


def test_a_folder_that_is_named_goes_on_with_its_run(store, tmp_path):
    """hydra.run.dir may be anywhere: the error names the folder to give."""
    found, run = find(store, "run", "KILLED")
    path = Path(run.data.tags["nnjit.checkpoint"])
    moved = tmp_path / "elsewhere" / "checkpoint.pkl"
    moved.parent.mkdir()
    path.rename(moved)
    found.set_tag(run.info.run_id, "nnjit.checkpoint", str(moved))
    assert f"give resume={moved}" in refused(python(*RUN, "resume=latest", cwd=store))
    process = start(*RUN, f"resume={moved.parent}", cwd=store)
    for line in process.stdout:
        if line.startswith("epoch "):
            process.terminate()
            break
    process.communicate(timeout=300)
    assert process.returncode == 130
    tags = found.get_run(run.info.run_id).data.tags
    assert tags["nnjit.resumed"] == "1"


def rewrite(store, change):
    """Change the recorded configuration of the finished run; return how it is named."""
    _, run = find(store, "run", "FINISHED")
    path = store / "runs" / "artifacts" / run.info.run_id / "artifacts" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))
    return f"run={run.info.run_id}"


CALL = "oc.create:{_target_:evil.Model,units:2}"


@pytest.mark.parametrize("escape", ["", "\\", "\\\\\\"])
def test_reproduce_builds_no_interpolation(escape, store):
    def change(config):
        config["model"]["layers"][-1] = f"{escape}${{{CALL}}}"

    error = refused(python(*REPRODUCE, rewrite(store, change), cwd=store))
    assert "still an interpolation" in error


def test_reproduce_tells_no_secret(store):
    name = rewrite(store, lambda config: config["dataset"].update(name="${oc.env:SECRET}"))
    done = python(*REPRODUCE, name, cwd=store, SECRET="hush")
    assert "still an interpolation" in refused(done)
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("damage", ["a: &a [x]", "[" * 3000, "{a: !!python/name:os.mkdir }", "\0"])
def test_a_damaged_configuration(damage, store):
    _, run = find(store, "run", "FINISHED")
    folder = store / "runs" / "artifacts" / run.info.run_id / "artifacts"
    (folder / "config.yaml").write_text(damage)
    assert "damaged" in refused(python(*REPRODUCE, run.info.run_id, cwd=store))


def replan(store, **change):
    change = {"cwd": str(store), **change}
    found, run = find(store, "sweep", "FAILED")
    folder = Path(run.data.tags["nnjit.folder"])
    plan = json.loads((folder / "sweep.json").read_text()) | change
    SweepManifest(**plan).write(folder)
    return found, run, folder, plan


def test_a_plan_calls_nothing_back(store):
    _, _, folder, plan = replan(store)
    evil = "+hydra.callbacks.evil={_target_: evil.Model, units: 2}"
    replan(store, arguments=[*plan["arguments"], evil])
    for which in ("latest", folder):
        error = refused(python(*RUN, "-m", f"resume={which}", cwd=store))
        assert f"the plan of the sweep holds {evil}" in error


def test_a_plan_elsewhere(store, tmp_path):
    found, run, folder, _ = replan(store)
    shutil.copytree(folder, tmp_path / "evil")
    found.set_tag(run.info.run_id, "nnjit.folder", str(tmp_path / "evil"))
    error = refused(python(*RUN, "-m", "resume=latest", cwd=store))
    assert f"give resume={tmp_path}/evil" in error


def test_a_plan_leads_nowhere(store, tmp_path):
    """A module in another folder would go before those of the library in every worker."""
    (tmp_path / "evil" / "joblib").mkdir(parents=True)
    (tmp_path / "evil" / "joblib" / "__init__.py").write_text(EVIL)
    replan(store, cwd=str(tmp_path / "evil"))
    error = refused(python(*RUN, "-m", "resume=latest", "hydra/launcher=joblib", cwd=store))
    assert f"the sweep began in {tmp_path}/evil" in error
    assert not (tmp_path / "evil" / "made").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cwd": 5}', "[" * 100_000])
def test_a_damaged_plan(damage, store):
    _, _, folder, _ = replan(store)
    (folder / "sweep.json").write_text(damage)
    assert "cannot be read" in refused(python(*RUN, "-m", "resume=latest", cwd=store))


def test_predict_reads_the_model_file_alone(store, tmp_path):
    """MLflow would import what MLmodel names."""
    import soundfile

    soundfile.write(tmp_path / "a.wav", [0.1, -0.1] * 2000, 1000)
    _, run = find(store, "run", "FINISHED")
    (path,) = (p for p in store.rglob("MLmodel") if run.info.run_id in p.read_text())
    text = path.read_text()
    assert "loader_module: nnjit.pyfunc" in text
    path.write_text(text.replace("loader_module: nnjit.pyfunc", "loader_module: evil"))
    lines = succeeded(
        python(*PREDICT, f"run={run.info.run_id}", f"audio={tmp_path}/a.wav", cwd=store)
    )
    assert "mean probability" in lines[-2]


class Evil:
    def __reduce__(self):
        return exec, ("import evil",)


def test_predict_with_a_pickle(store, tmp_path):
    for path in store.rglob("model.pkl"):
        path.write_bytes(pickle.dumps(Evil(), protocol=5))
    error = refused(python(*PREDICT, "run=latest", f"audio={path}", cwd=store))
    assert "asks for STACK_GLOBAL" in error
