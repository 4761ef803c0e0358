"""Runs that begin with the weights of a saved model."""

import pytest
from commands import RUN, SMALL, python, refused, runs, succeeded

from nnjit.tracking import Store, store_uri

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]
STILL = "optimizer.learning_rate=1e-30"  # changes no weight


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a run, and one that began with its weights and kept them."""
    folder = tmp_path_factory.mktemp("begin")
    succeeded(python(*RUN, *SMALL, cwd=folder))
    succeeded(python(*RUN, *SMALL, "seed=7", STILL, "init_from=latest", cwd=folder))
    return folder


def test_it_has_the_weights_and_the_id_of_the_run(place):
    second, first = runs(place)
    digests = {run.data.tags["nnjit.weights_digest"] for run in (first, second)}
    assert len(digests) == 1
    assert second.data.params["init_from"] == first.info.run_id


def test_it_is_reproduced(place):
    second, _ = runs(place)
    done = python("-m", "nnjit.reproduce", second.info.run_id, cwd=place)
    assert succeeded(done)[-1].startswith("the bits agree")


def test_from_a_file_and_with_another_layer(place, tmp_path):
    first = runs(place)[-1]
    file = Store.existing(store_uri(place / "runs")).model_file(first.info.run_id)
    options = (*SMALL, "tracking=none", f"init_from={file}")
    done = python(*RUN, *options, "model.layers.0.hidden_size=3", cwd=tmp_path)
    assert done.returncode == 0
    assert "init_from: rnn, dense of the model are not as saved, and begin anew" in done.stderr


def test_a_run_that_is_not_there(place):
    assert "run=abc123 does not exist" in refused(python(*RUN, "init_from=abc123", cwd=place))


def test_the_newest_run_is_not_one_for_a_whole_sweep(place):
    done = python(*RUN, "-m", *SMALL, "seed=1,2", "init_from=latest", cwd=place)
    assert "give its id" in done.stdout + done.stderr
    assert done.returncode == 1
