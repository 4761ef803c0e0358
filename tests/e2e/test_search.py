"""Searches with Optuna: real studies, real processes, some of them killed."""

import os
import shlex
import signal
import time

import pytest
from commands import RUN, SMALL, python, refused, runs, start, succeeded

optuna = pytest.importorskip("optuna")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic|optuna)"),
]
SEARCH = (*RUN, "-m", "hydra/sweeper=optuna", *SMALL)
RATE = "optimizer.learning_rate=tag(log,interval(1e-3,1e-1))"
UNITS = "model.layers.2.units=int(interval(4,64))"
TWO = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def trials(folder, study="search"):
    return optuna.load_study(
        study_name=study, storage=f"sqlite:///{folder}/runs/optuna.db"
    ).get_trials()


def states(folder):
    return [trial.state.name for trial in trials(folder)]


def family(folder):
    """Return the parent, and its children by the number of their trial, newest first."""
    found = runs(folder)
    (parent,) = (r for r in found if r.data.tags["nnjit.kind"] == "sweep")
    children = {}
    for r in found:
        if r is not parent:
            assert r.data.tags["mlflow.parentRunId"] == parent.info.run_id
            children.setdefault(int(r.data.tags["nnjit.trial"]), []).append(r)
    return parent, children


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return a folder in which 4 trials were searched by two workers, and what was printed."""
    place = tmp_path_factory.mktemp("search")
    options = (RATE, UNITS, *TWO, "hydra.sweeper.n_trials=4")
    return place, succeeded(python(*SEARCH, *options, cwd=place))


def test_every_trial_is_a_child(searched):
    place, _ = searched
    parent, children = family(place)
    found = trials(place)
    assert len(found) == 4
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED"}
    assert sorted(children) == [0, 1, 2, 3]
    for trial in found:
        (run,) = children[trial.number]
        assert run.info.status == "FINISHED"
        assert run.info.run_name.startswith(f"trial {trial.number} ")
        assert run.data.tags["threads"] == str(max(1, (os.cpu_count() or 1) // 2))
        for key, value in trial.params.items():
            assert run.data.params[key] == run.data.tags[f"nnjit.trial.{key}"] == str(value)
        if trial.state.name == "COMPLETE":
            assert trial.value == run.data.metrics["best/val_accuracy"]
    assert parent.info.status == "FINISHED"


def test_the_best_trial_is_named_and_can_be_repeated(searched):
    place, lines = searched
    parent, children = family(place)
    (best,) = (line for line in lines if line.startswith("best     "))
    (again,) = (line.partition(" ")[2].strip() for line in lines if line.startswith("again  "))
    done = [t for t in trials(place) if t.state.name == "COMPLETE"]
    number = int(parent.data.metrics["best/trial"])
    assert best.startswith(f"best     trial {number} with val/accuracy ")
    assert parent.data.metrics["best/val_accuracy"] == max(t.value for t in done)
    assert again in parent.data.tags["mlflow.note.content"]
    succeeded(python(*shlex.split(again)[1:], "tracking.experiment=again", cwd=place))
    (repeated,) = (
        r
        for r in runs(place)
        if "mlflow.parentRunId" not in r.data.tags and r.data.tags["nnjit.kind"] == "run"
    )
    tag = "nnjit.weights_digest"
    assert repeated.data.tags[tag] == children[number][0].data.tags[tag]


def test_the_parent_has_a_figure(searched):
    place, _ = searched
    parent, _ = family_of_first(place)
    (figure,) = (place / "runs" / "artifacts").glob(f"{parent.info.run_id}/**/search.png")
    assert figure.read_bytes().startswith(b"\x89PNG")


def family_of_first(place):
    found = [r for r in runs(place) if r.data.tags["nnjit.kind"] == "sweep"]
    return found[0], None


def test_the_same_command_goes_on(searched):
    place, _ = searched
    before = trials(place)
    options = (RATE, UNITS, *TWO)
    more = succeeded(python(*SEARCH, *options, "hydra.sweeper.n_trials=6", cwd=place))
    assert sum(line.startswith("[") for line in more) == 2
    found = trials(place)
    assert [t.params for t in found[:4]] == [t.params for t in before]
    assert len({tuple(t.params.items()) for t in found}) == 6
    children = [r for r in runs(place) if "nnjit.trial" in r.data.tags]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {
        family_of_first(place)[0].info.run_id
    }
    same = (*options, "hydra.sweeper.n_trials=6")
    assert "there is nothing to do" in refused(python(*SEARCH, *same, cwd=place))
    other = (*options, "trainer.epochs=2")
    assert "was begun with trainer.epochs=3, not 2" in refused(python(*SEARCH, *other, cwd=place))


def test_hopeless_trials_are_pruned_and_diverging_ones_fail(tmp_path):
    """A rate of 1e-12 learns nothing, one of 1e38 diverges; the search goes on after both."""
    options = (
        "optimizer.learning_rate=0.1,1e-12,1e38",
        "trainer.monitor=train/loss",
        "trainer.epochs=8",
        *("hydra.sweeper.n_trials=6", "hydra.sweeper.seed=4"),
        *("hydra.sweeper.n_unpruned_trials=2", "hydra.sweeper.n_warmup_epochs=1"),
    )
    done = python(*SEARCH, *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # some failed, as the lines say
    assert "FAILED: the loss became" in done.stdout
    found, (parent, children) = trials(tmp_path), family(tmp_path)
    assert len(found) == 6
    for trial in found:
        (run,) = children[trial.number]
        rate = trial.params["optimizer.learning_rate"]
        failed = rate == 1e38
        assert run.info.status == ("FAILED" if failed else "FINISHED")
        assert (trial.state.name == "FAIL") == failed
        pruned = trial.state.name == "PRUNED"
        assert ("nnjit.pruned" in run.data.tags) == pruned
        if pruned:
            assert int(run.data.tags["nnjit.pruned"]) == max(trial.intermediate_values) < 7
    assert "PRUNED" in {t.state.name for t in found if t.params["optimizer.learning_rate"] == 1e-12}
    best = min(t.value for t in found if t.state.name == "COMPLETE")
    assert parent.data.metrics["best/train_loss"] == best
    assert parent.info.status == "FAILED"


def test_a_killed_search_goes_on(tmp_path):
    """Killed with its workers while trials run: they run again, those that had ended stay."""
    options = (RATE, *TWO, "trainer.epochs=100", "hydra.sweeper.n_trials=5")
    options += ("hydra.sweeper.n_startup_trials=2",)  # TPE, which learns from the trials before
    process = start(*SEARCH, *options, cwd=tmp_path, new_session=True)
    for line in process.stdout:
        if line.startswith("[3/"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = trials(tmp_path)
    assert "RUNNING" in states(tmp_path)
    succeeded(python(*SEARCH, *options, cwd=tmp_path))
    found, (parent, children) = trials(tmp_path), family(tmp_path)
    assert len(found) == 5
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED"}
    assert [t.params for t in found[: len(before)]] == [t.params for t in before]
    assert parent.info.status == "FINISHED"
    assert sorted(children) == [0, 1, 2, 3, 4]
    # What is drawn afterwards is what a search that nobody killed draws.
    place = tmp_path / "whole"
    place.mkdir()
    succeeded(python(*SEARCH, *options, cwd=place))
    assert [t.params for t in found] == [t.params for t in trials(place)]
    for number, same in children.items():
        assert len([r for r in same if r.data.tags["nnjit.kind"] == "run"]) == 1, number
        assert "RUNNING" not in {r.info.status for r in same}


def test_two_searches_in_one_study_are_refused(tmp_path):
    options = (RATE, "trainer.epochs=1000000", "hydra.sweeper.n_trials=2")
    first = start(*SEARCH, *options, cwd=tmp_path)
    end = time.monotonic() + 600
    while not list(tmp_path.glob("runs/sweeps/*/*/records/0.json")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end, "no trial has begun"
        time.sleep(0.2)
    assert states(tmp_path) == ["RUNNING"]
    error = refused(python(*SEARCH, *options, cwd=tmp_path))
    assert "is still running" in error or "another process searches" in error
    first.kill()
    first.communicate(timeout=300)


def test_nothing_to_search_is_one_line(tmp_path):
    untracked = (*SEARCH, "tracking=none")
    assert "there is nothing to search" in refused(python(*untracked, cwd=tmp_path))
    wrong = "trainer.epochz=range(1,5)"
    assert "did you mean epochs" in refused(python(*untracked, wrong, cwd=tmp_path))
