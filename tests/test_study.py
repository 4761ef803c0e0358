"""What stands between Hydra's overrides and Optuna's trials; on real studies."""

import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nnjit.errors import ConfigError
from nnjit.reporting import figures
from nnjit.sweeps.search import study
from nnjit.sweeps.search import sweeper as search
from nnjit.training.history import History

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore:::(optuna|sqlalchemy|alembic)")
D = optuna.distributions


def override(text):
    return OverridesParser.create().parse_override(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=interval(0,1)", D.FloatDistribution(0, 1)),
        ("a=int(interval(1,64))", D.IntDistribution(1, 64)),
        ("a=tag(log,interval(1e-4,1e-1))", D.FloatDistribution(1e-4, 1e-1, log=True)),
        ("a=tag(log,int(interval(1,64)))", D.IntDistribution(1, 64, log=True)),
        ("a=range(1,8)", D.IntDistribution(1, 7)),
        ("a=range(0.1,0.5,0.1)", D.FloatDistribution(0.1, 0.4, step=0.1)),
        ("a=choice(sgd,adam)", D.CategoricalDistribution(["sgd", "adam"])),
        ("a=1,2.5,true", D.CategoricalDistribution([1, 2.5, True])),
        ("a=null,1.0", D.CategoricalDistribution(["null", 1.0])),
        ("a='x y',[1,2]", D.CategoricalDistribution(["'x y'", "[1,2]"])),
    ],
)
def test_overrides_become_distributions(text, expected):
    assert search._distribution(override(text)) == expected


@pytest.mark.parametrize("text", ["a=tag(log,interval(0,1))", "a=range(3,3)"])
def test_what_cannot_be_searched_is_one_line(text):
    with pytest.raises(ConfigError, match=r"^a="):
        search._distribution(override(text))


def test_sampled_numbers_have_three_digits_and_stay_inside():
    found = optuna.create_study(sampler=study.sampler(seed=0, n_startup_trials=5))
    for _ in range(20):
        trial = found.ask({"a": D.FloatDistribution(0.12345, 0.6789), "b": D.IntDistribution(1, 9)})
        a = trial.params["a"]
        assert a in (0.12345, 0.6789) or a == float(f"{a:.3g}")
        assert 0.12345 <= a <= 0.6789
        found.tell(trial, a + trial.params["b"])


def test_keys_are_shortened_as_far_as_they_differ():
    keys = ["model.layers.0.units", "model.layers.2.units", "optimizer.learning_rate", "model"]
    assert [search._short(key, keys) for key in keys] == [
        "0.units",
        "2.units",
        "learning_rate",
        "model",
    ]


@pytest.fixture
def place(tmp_path):
    """Return a study with two full trials of four epochs, at 0.5 and 0.7, and an open one."""
    found = study.StudyConfig("s", f"sqlite:///{tmp_path}/optuna.db", 2, 1)
    kept = found.open(direction="maximize")
    for value in (0.5, 0.7):
        trial = kept.ask({"x": D.IntDistribution(0, 9)})
        for epoch in range(4):
            trial.report(value, epoch)
        kept.tell(trial, value)
    kept.ask({"x": D.IntDistribution(0, 9)})
    return found


def watched(place, values, number=2):
    """Return the trial after these epochs, and how many of them it let happen."""
    trial = study.Trial(place, number)
    history = History("val/accuracy")
    progress = SimpleNamespace(history=history, n_epochs=4, stop=False)
    for n, value in enumerate(values):
        history.epochs.append(SimpleNamespace(epoch=n, flat=lambda v=value: {"val/accuracy": v}))
        trial.on_epoch_end(progress)
        if progress.stop:
            break
    return trial, len(history.epochs)


def test_a_trial_below_the_median_ends_after_the_warm_up(place):
    trial, n_epochs = watched(place, [0.1, 0.2, 0.3, 0.4])
    assert (trial.pruned, n_epochs) == (1, 2)
    frozen = place.open().get_trials()[2]
    assert frozen.intermediate_values == {0: 0.1, 1: 0.2}
    assert frozen.user_attrs["pruned"] == 1
    assert trial.tags["nnjit.trial.x"] == str(frozen.params["x"])


def test_a_trial_above_the_median_goes_on(place):
    trial, n_epochs = watched(place, [0.1, 0.65, 0.1, 0.1])
    assert (trial.pruned, n_epochs) == (None, 4)


def test_the_last_epoch_is_not_pruned(place):
    assert watched(place, [0.8, 0.8, 0.8, 0.1])[0].pruned is None


def test_a_trial_that_runs_again_may_report_again(place):
    watched(place, [0.8, 0.8])
    assert watched(place, [0.8, 0.8, 0.8, 0.8])[1] == 4


def test_without_pruning_nothing_ends(place):
    kept = study.StudyConfig(place.name, place.storage, None, 0)
    assert watched(kept, [0.0, 0.0, 0.0, 0.0])[1] == 4


def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, but long enough to be read as one" * 9)
    place = study.StudyConfig("s", f"sqlite:///{tmp_path}/text.db", 5, 3)
    with pytest.raises(ConfigError, match="cannot open the study s in sqlite:///"):
        place.open(direction="maximize")


def open_new(folder, number, ready, failures):
    for place in (
        study.StudyConfig(f"s{number}", f"sqlite:///{folder}/{i}.db", 5, 3) for i in range(8)
    ):
        ready.wait(60)
        try:
            place.open(direction="maximize")
        except ConfigError as error:
            failures.put(str(error))


@pytest.mark.slow
def test_searches_that_begin_at_once_make_one_store(tmp_path):
    """Tables that two processes make at the same time would fail in one of them."""
    spawn = multiprocessing.get_context("spawn")
    ready, failures = spawn.Barrier(3), spawn.Queue()
    processes = [
        spawn.Process(target=open_new, args=(tmp_path, number, ready, failures))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert failures.empty(), failures.get()
    for i in range(8):
        names = optuna.get_all_study_names(f"sqlite:///{tmp_path}/{i}.db")
        assert sorted(names) == ["s0", "s1", "s2"]


def test_table_and_figure(place):
    kept = place.open()
    kept.tell(2, state=optuna.trial.TrialState.FAIL)
    trials = kept.get_trials()
    head, first, second, more, _ = search._table(trials, maximize=True)
    assert head.split() == ["trial", "value", "x"]
    assert first.split()[:3] == ["1", "0.7000", "complete"]
    assert second.split()[:2] == ["0", "0.5000"]
    assert more == "and 1 more"
    history, shares = figures.search(trials, {"x": 1.0}, "val/accuracy").axes
    step = next(line for line in history.lines if line.get_label() == "best so far")
    np.testing.assert_array_equal(step.get_ydata(), [0.5, 0.7, 0.7])
    assert [patch.get_width() for patch in shares.patches] == [1.0]
