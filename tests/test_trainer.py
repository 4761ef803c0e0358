import re
from dataclasses import replace

import numpy as np
import pytest
import toy

from nnjit.activations import ACTIVATIONS
from nnjit.errors import ConfigError, DataError, DivergedError, ShapeError
from nnjit.layers import GRU, Codes, Dense, Flatten, Signal
from nnjit.model import Sequential
from nnjit.storage.files import weights_digest
from nnjit.training.callbacks import Callback, EarlyStopping
from nnjit.training.losses import LOSSES
from nnjit.training.optimizers import Adam
from nnjit.training.trainer import Trainer


class Recorder(Callback):
    """Keeps what it hears, and the parameters after each epoch."""

    def __init__(self):
        self.batches, self.weights, self.ended = [], [], 0

    def on_batch_end(self, progress):
        self.batches.append((progress.epoch, progress.batch))

    def on_epoch_end(self, progress):
        self.weights.append(toy.weights(progress.model))

    def on_train_end(self, progress):
        self.ended += 1


def trained(**options):
    """Return the digest of the weights and all values of a run."""
    model = toy.model()
    history = toy.trainer(**options).fit(model, toy.data())
    return weights_digest(model), [epoch.flat() for epoch in history.epochs]


def assert_weights(model, expected):
    found = toy.weights(model)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_a_seed_repeats_every_bit_and_seeds_differ():
    assert trained(seed=0) == trained(seed=0)
    digests = {trained(seed=seed)[0] for seed in (0, 1, 2)}
    assert len(digests) == 3


def test_no_seed_draws_one_and_keeps_it():
    first, second = toy.trainer(seed=None), toy.trainer(seed=None)
    assert first.seed != second.seed
    model = toy.model()
    first.fit(model, toy.data())
    assert trained(seed=first.seed)[0] == weights_digest(model)


def test_fitting_10_epochs_twice_makes_20():
    trainer, model, recorder = toy.trainer(epochs=10), toy.model(), Recorder()
    histories = [trainer.fit(model, toy.data(), [recorder]) for _ in range(2)]
    assert [len(history.epochs) for history in histories] == [10, 10]
    assert [epoch.epoch for epoch in histories[1].epochs] == list(range(10))
    assert len(recorder.weights) == 20
    assert trainer.optimizer.n_steps == 20 * (50 // 16)


def test_second_fit_goes_on_from_the_first():
    trainer, model, recorder = toy.trainer(), toy.model(), Recorder()
    trainer.fit(model, toy.data())
    before = toy.weights(model)
    toy.trainer(learning_rate=1e-30, epochs=1).fit(model, toy.data(), [recorder])
    assert_weights(model, before)


@pytest.mark.parametrize(("drop", "expected"), [(True, 3), (False, 4)])
def test_drop_last(drop, expected):
    recorder = Recorder()
    toy.trainer(drop_last=drop, epochs=2).fit(toy.model(), toy.data(), [recorder])
    assert recorder.batches == [(e, b) for e in range(2) for b in range(expected)]
    assert recorder.ended == 1


def test_batch_larger_than_the_set():
    with pytest.raises(ConfigError, match=r"batch_size=64 is more than the 50 training clips"):
        toy.trainer(batch_size=64).fit(toy.model(), toy.data())
    history = toy.trainer(batch_size=64, drop_last=False).fit(toy.model(), toy.data())
    assert len(history.epochs) == 3


def test_every_clip_is_trained_on_once_an_epoch(monkeypatch):
    model, seen = toy.model(), []
    forward = Sequential.forward_rows

    def spy(self, data, rows, **options):
        if options.get("training"):
            seen.append(rows)
        return forward(self, data, rows, **options)

    monkeypatch.setattr(Sequential, "forward_rows", spy)
    toy.trainer(drop_last=False, epochs=2).fit(model, toy.data())
    first, second = np.concatenate(seen[:4]), np.concatenate(seen[4:])
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)


def test_sum_equals_mean_at_a_rate_times_batch_size():
    a, b = toy.model(), toy.model()
    toy.trainer(0.01, reduction="sum").fit(a, toy.data())
    toy.trainer(0.16, reduction="mean").fit(b, toy.data())
    expected = toy.weights(b)
    for name, value in toy.weights(a).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    assert weights_digest(a) != weights_digest(toy.model().build(a.inputs))


@pytest.mark.parametrize("batch_size", [16, 50], ids=["several batches", "one batch"])
def test_divergence_tells_epoch_and_batch(batch_size):
    trainer = toy.trainer(1e38, batch_size=batch_size, loss="categorical_cross_entropy")
    with pytest.raises(DivergedError, match=r"epoch 0\b.*learning_rate=1e\+38") as error:
        trainer.fit(toy.model(), toy.data())
    if batch_size == 16:
        assert re.search(r"batch [12]:", str(error.value))


def test_evaluation_has_no_dropout():
    trainer, model, data = toy.trainer(), toy.model(rate=0.9), toy.data()
    history = trainer.fit(model, data)
    for name, clips in data.sets().items():
        np.testing.assert_array_equal(
            history.final.sets[name].probabilities, model.predict_proba(clips.codes)
        )
    again = [trainer.evaluate(model, data.val.codes, data.val.labels).values for _ in range(2)]
    assert again[0] == again[1] == history.final.sets["val"].values


def test_evaluating_does_not_change_training():
    class Evaluator(Callback):
        def on_batch_end(self, progress):
            progress.model.predict(toy.data().train.codes)
            toy.trainer().evaluate(progress.model, toy.data().val.codes, toy.data().val.labels)

    model = toy.model()
    toy.trainer().fit(model, toy.data(), [Evaluator()])
    without_sets = toy.model()
    toy.trainer(monitor="train/loss").fit(without_sets, toy.data(sizes=(50, 0, 0)))
    assert weights_digest(model) == weights_digest(without_sets) == trained()[0]


@pytest.mark.parametrize("restore", [False, True])
def test_restore_best(restore):
    model, recorder, data = toy.model(), Recorder(), toy.data()
    wrong = replace(data.val, labels=1 - data.val.labels)  # the more it learns, the worse
    trainer = toy.trainer(epochs=8, restore_best=restore, monitor="val/loss")
    history = trainer.fit(model, replace(data, val=wrong), [recorder])
    losses = [epoch.flat()["val/loss"] for epoch in history.epochs]
    assert history.best.epoch == np.argmin(losses) < 7
    assert_weights(model, recorder.weights[history.best.epoch if restore else -1])


def test_of_equal_epochs_the_first_is_best():
    history = toy.trainer(1e-30).fit(toy.model(), toy.data())
    assert history.best is history.epochs[0]


@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping(patience):
    recorder = Recorder()
    trainer = toy.trainer(1e-30, epochs=9)  # nothing ever improves on epoch 0
    history = trainer.fit(toy.model(), toy.data(), [EarlyStopping(patience), recorder])
    assert len(history.epochs) == patience + 1
    assert recorder.ended == 1


def test_no_early_stopping_while_it_improves():
    trainer = toy.trainer(0.05, epochs=6, monitor="train/loss")
    history = trainer.fit(toy.model(rate=0.0), toy.data(), [EarlyStopping(1)])
    assert len(history.epochs) == 6


def test_a_metric_alone_is_monitored_on_the_validation_set():
    history = toy.trainer(monitor="accuracy").fit(toy.model(), toy.data())
    assert history.monitor == "val/accuracy"


@pytest.mark.parametrize("monitor", ["accuracy", "val/accuracy"])
def test_monitor_falls_back_on_the_training_set(monitor):
    told = f"monitor={monitor}, but there is no set 'val': train/accuracy decides the best epoch"
    with pytest.warns(UserWarning, match=told):
        history = toy.trainer(monitor=monitor).fit(toy.model(), toy.data(sizes=(50, 0, 20)))
    assert history.monitor == "train/accuracy"
    assert list(history.final.sets) == ["train", "test"]


def test_learns_three_classes():
    data = toy.data(3, sizes=(150, 60, 0))
    history = toy.trainer(0.5, epochs=40, loss="categorical_cross_entropy").fit(toy.model(3), data)
    found = history.final.sets["val"]
    assert found.values["accuracy"] > 0.8
    assert found.confusion.sum() == 60
    assert found.confusion.shape == (3, 3)
    assert {"recall/low", "recall/high", "recall/middle"} <= set(found.values)


def test_learns_with_a_single_sigmoid_unit():
    data = toy.data(sizes=(100, 50, 0))
    trainer = toy.trainer(0.5, epochs=40, loss="binary_cross_entropy")
    history = trainer.fit(toy.model(1, "sigmoid"), data)
    found = history.final.sets["val"]
    assert found.values["accuracy"] > 0.8
    np.testing.assert_array_equal(
        found.confusion[1, 1], np.sum((found.probabilities[:, 0] > 0.5) & (data.val.labels == 1))
    )


def test_positive_class_is_that_of_the_data():
    data = [toy.data(positive=k) for k in (0, 1)]
    first, second = (toy.trainer().fit(toy.model(), d).final.sets["val"].values for d in data)
    assert first["recall"] == second["specificity"]
    assert first["precision"] == second["npv"]


def signals(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return rng.normal(size=(n, 12, 3)) + labels[:, None, None], labels


def test_learns_from_plain_arrays_of_signals():
    model = Sequential([GRU(4), Dense(2, "softmax")]).build(Signal(12, 3))
    trainer = toy.trainer(0.5, epochs=15, monitor="held_out/accuracy")
    history = trainer.fit(model, {"train": signals(96), "held_out": signals(40, 1)})
    assert history.monitor == "held_out/accuracy"
    assert history.final.sets["held_out"].values["accuracy"] > 0.8


def test_plain_arrays_that_do_not_fit():
    model = Sequential([GRU(4), Dense(2, "softmax")]).build(Signal(12, 3))
    x, labels = signals(32)
    with pytest.raises(DataError, match="no set 'train', only val"):
        toy.trainer().fit(model, {"val": (x, labels)})
    with pytest.raises(ShapeError, match=r"\(N, 12, 3\), got"):
        toy.trainer().fit(model, {"train": (x[:, :, :2], labels)})
    with pytest.raises(ConfigError, match=r"2 outputs for 3 classes: .* units=3"):
        toy.trainer().fit(model, {"train": (x, np.arange(32) % 3)})
    with pytest.raises(ConfigError, match=r"build the model"):
        toy.trainer().fit(Sequential([GRU(4), Dense(2)]), {"train": (x, labels)})


@pytest.mark.parametrize(
    "labels",
    [np.arange(31) % 2, np.full(32, -1), np.full(32, 0.5), np.zeros((32, 2), int)],
    ids=["too few", "negative", "fractions", "one-hot"],
)
def test_labels_that_are_none(labels):
    model = Sequential([GRU(4), Dense(2, "softmax")]).build(Signal(12, 3))
    with pytest.raises(DataError, match="labels of set 'train'"):
        toy.trainer().fit(model, {"train": (signals(32)[0], labels)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "trainer.epochs=0"),
        ({"epochs": 2.5}, "trainer.epochs=2.5"),
        ({"batch_size": 0}, "trainer.batch_size=0"),
        ({"reduction": "max"}, "choose from mean, sum"),
        ({"monitor": "val/f2"}, "choose from loss, accuracy, recall"),
        ({"loss": "hinge"}, "choose from mse"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        toy.trainer(**options)


def test_history_and_rates():
    history = toy.trainer(0.2, epochs=4).fit(toy.model(), toy.data())
    assert len(history.epochs) == 4
    assert history.final is history.epochs[-1]
    assert history.final.rates == {"dense": 0.2, "dense_2": 0.2}
    assert {"train/loss", "val/accuracy", "test/npv"} <= set(history.final.flat())


def test_another_model_starts_with_a_fresh_optimizer():
    data, shared = toy.data(), Trainer(Adam(), epochs=3, threads=1)
    shared.fit(Sequential([Flatten(), Dense(64, "relu"), Dense(2, "softmax")]), data)
    models = [toy.model(), toy.model()]
    shared.fit(models[0], data)
    Trainer(Adam(), epochs=3, threads=1).fit(models[1], data)
    for name, value in toy.weights(models[0]).items():
        np.testing.assert_array_equal(value, toy.weights(models[1])[name], err_msg=name)


def test_an_optimizer_refuses_the_memory_of_another_model():
    optimizer, data = Adam(), toy.data()
    Trainer(optimizer, epochs=1, threads=1).fit(toy.model(), data)
    wide = Sequential([Flatten(), Dense(64, "relu"), Dense(2, "softmax")]).build(
        Codes(toy.STEPS, toy.LEVELS)
    )
    with pytest.raises(ConfigError, match="is of another model"):
        optimizer.step(wide.params, wide.params)


def test_a_model_of_another_data_set_is_refused():
    model = toy.model().build(Codes(toy.STEPS, toy.LEVELS + 1))
    with pytest.raises(ConfigError, match="was built for"):
        toy.trainer().fit(model, toy.data())


def test_a_monitor_of_no_set_is_refused():
    with pytest.raises(ConfigError, match="vla/accuracy names no set: choose from train, val"):
        toy.trainer(monitor="vla/accuracy").fit(toy.model(), toy.data())


def test_patience_ends_a_run():
    trainer = toy.trainer(epochs=200, monitor="val/loss")
    history = trainer.fit(toy.model(), toy.data(), [EarlyStopping(2)])
    assert history.last.epoch == history.best.epoch + 2 < 199


HEADS = [(units, a, loss) for units in (1, 2) for a in ACTIVATIONS for loss in LOSSES]


@pytest.mark.parametrize(("units", "activation", "loss"), HEADS)
def test_every_head_learns_or_is_refused(units, activation, loss):
    """No head and loss go together that cannot tell two classes however long they are trained."""
    try:
        model = Sequential([Flatten(), Dense(units, activation)])
        history = toy.trainer(0.05, loss=loss, epochs=50).fit(model, toy.data())
    except ConfigError:
        return
    assert history.final.flat()["train/accuracy"] > 0.8


class Last(Callback):
    """Keeps the weights that training goes on with."""

    def on_epoch_end(self, progress):
        self.weights = toy.weights(progress.model)


def test_averages_are_evaluated_and_kept():
    last, model, data = Last(), toy.model(), toy.data()
    trainer = Trainer(Adam(0.05, ema_momentum=0.9), epochs=3, threads=1)
    history = trainer.fit(model, data, [last])
    averages = {
        f"{k}.{n}": w for k, g in trainer.optimizer.averages().items() for n, w in g.items()
    }
    assert_weights(model, averages)
    assert not np.array_equal(last.weights["dense.W"], averages["dense.W"])
    x = model.check(data.val.codes)
    found = trainer.evaluate(model, x, data.val.labels, 2, data.positive, data.classes)
    assert history.last.sets["val"].values == found.values


def test_averages_change_no_bit_of_training():
    weights = []
    for momentum in (None, 0.9):
        last = Last()
        Trainer(Adam(0.05, ema_momentum=momentum), threads=1).fit(toy.model(), toy.data(), [last])
        weights.append(last.weights)
    assert all(np.array_equal(w, weights[1][name]) for name, w in weights[0].items())


def test_a_frozen_layer_keeps_its_weights():
    model = toy.model()
    model.build(toy.ENCODING.inputs, 0)
    before = toy.weights(model)
    optimizer = Adam(0.05, layers={"dense": {"trainable": False}})
    Trainer(optimizer, threads=1).fit(model, toy.data())
    same = {name: np.array_equal(w, before[name]) for name, w in toy.weights(model).items()}
    assert same == {"dense.W": True, "dense.b": True, "dense_2.W": False, "dense_2.b": False}
