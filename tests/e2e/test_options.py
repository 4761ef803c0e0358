"""Slips on the command line: one line each, which names the option and leads on."""

import pytest
from commands import PREDICT, RUN, SMALL, python, refused, succeeded

from nnjit.runtime import memory

SHORT = (*SMALL, "trainer.epochs=1", "dataset.cache_dir=null", "tracking=none")
# A process takes seconds: these few stand for the kinds, the others are slow.
KINDS = [
    (["~model.layers.1"], "~model.layers.1: no entry of a list can be deleted: write all others"),
    (["trainer=[1,2,3]"], "trainer=[1,2,3]: write GROUP=CHOICE with one of default"),
    (["+hydra.verbose=[1]"], "+hydra.verbose=[1] does not work: A logger name must be"),
    (["model.layers.0.hidden_size=1000000"], "parameters need 16,205 GB of memory"),
    (["seed=1,2"], "seed=1,2 has several values: add -m"),
    (["hidden_size=3"], "hidden_size does not exist: did you mean model.layers.0.hidden_size?"),
]
SIBLINGS = [
    (["tracking=[{_target_: x}]"], "write GROUP=CHOICE with one of mlflow, none"),
    (
        ["optimizer=null"],
        "optimizer=null: write GROUP=CHOICE with one of adam, adamw, momentum, rmsprop, sgd",
    ),
    (["model=[]"], "model names nothing to build"),
    (["hydra.verbose=3"], "hydra.verbose=3 does not work"),
    (["hydra.run.dir=null"], "hydra.run.dir=null"),
    (["dataset.rate=1e15"], "there is not enough memory (Unable to allocate 4.26 PiB"),
    (["dataset.n_clips=99999999999999999999"], "there is not enough memory"),
    (["model.layers.0.hidden_size=99999999999999999999999"], "lower hidden_size or units"),
    (["model.layers.2.units=1000000000"], "lower hidden_size or units"),
    (["dataset.n_tracks=99999999999"], "dataset.n_tracks=99999999999"),
    (["trusted=5"], "trusted=5 is no list"),
    (["trusted=nnjit"], "trusted=nnjit is no list"),
    (["seed=${seed}"], "seed: Recursive interpolation"),
    (["+x=${nowhere}"], "Interpolation key 'nowhere' not found"),
    (["--model=gru"], "--model=gru is no flag: write model=gru"),
    (["--model", "gru"], "--model is no flag: options are KEY=VALUE"),
    (["--config-dir"], "--config-dir has no value"),
    (["epochs=3"], "did you mean trainer.epochs?"),
    (["learning_rate=3"], "did you mean optimizer.learning_rate?"),
    (["model.hidden_size=3"], "did you mean model.layers.0.hidden_size?"),
    (["dataset=guitar", "dataset.root=x"], "dataset=author_music and dataset=folder"),
    (["dataset=my/folder"], "use dataset=folder dataset.root=my/folder"),
    (["=1"], "write GROUP=CHOICE or KEY=VALUE"),
    (["search=gru"], "a search is a sweep: add -m"),
    (["-m", "hydra/launcher=slurmm"], "hydra/launcher=slurmm does not exist: did you mean slurm"),
    (["model.layers.0.hidden_size=1e400"], "hidden_size=inf has the wrong type"),
    (["model.layers=null"], "model.layers=None has the wrong type"),
]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [*KINDS, *(pytest.param(*row, marks=pytest.mark.slow) for row in SIBLINGS)],
    ids=lambda value: str(value)[:50],
)
def test_slips_are_one_line(overrides, message, tmp_path):
    assert message in refused(python(*RUN, *SHORT, *overrides, cwd=tmp_path))


def test_flags_between_overrides(tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    text = "defaults: [rnn]\ndtype: float64\n"
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(text, encoding="utf-8")
    first, *more = SHORT
    flags = ("--config-dir", "conf", "seed=2", "-m", "model=mine")
    lines = succeeded(python(*RUN, first, *flags, *more, "seed=3,4", cwd=tmp_path))
    assert any("2 jobs" in line for line in lines)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:5000", "localhost:5000 is no address of a store: write http://localhost:5000"),
        ("here/x.db", "write sqlite:///here/x.db for a file"),
        ("nowhere://me:secret@x", "nowhere://me:***@x is no address of a store: write http://"),
    ],
)
def test_what_is_no_address_of_a_store(address, message):
    from nnjit.errors import TrackingError
    from nnjit.tracking import Store

    with pytest.raises(TrackingError) as error:
        Store.existing(address)
    assert message in str(error.value)


def test_memory_of_this_machine():
    assert memory.total() is None or memory.total() > 1 << 27


def test_predict_says_it_too(tmp_path):
    assert "audio=FILE_OR_FOLDER" in refused(python(*PREDICT, "run=latest", cwd=tmp_path))
