"""Norms on record, and the learning rate finder: neither changes a bit of training."""

from types import SimpleNamespace

import numpy as np
import pytest
import toy

from nnjit.errors import ConfigError
from nnjit.layers import RNN, Dense, Dropout, Flatten, Signal
from nnjit.model import Sequential
from nnjit.storage.files import weights_digest
from nnjit.training.callbacks import Callback
from nnjit.training.lr_finder import LearningRateFinder, find_learning_rate
from nnjit.training.norms import Norms
from nnjit.training.optimizers import SGD, Adam
from nnjit.training.schedules import Exponential
from nnjit.training.trainer import Trainer


def fitted(callbacks=(), **options):
    model = toy.model()
    toy.trainer(**options).fit(model, toy.data(), callbacks)
    return model


class Watch(Callback):
    """Keeps what goes on record with each epoch, and the gradients of the last batch."""

    def __init__(self):
        self.values, self.taken = [], []

    def on_batch_end(self, progress):
        self.gradients = progress.last_batch.gradients

    def on_epoch_end(self, progress):
        assert progress.last_batch is None
        self.values.append(dict(progress.values))


@pytest.mark.parametrize("first", [True, False])
def test_they_go_on_record_with_their_epoch(first):
    norms, watch = Norms(every=2), Watch()
    fitted([norms, watch] if first else [watch, norms], epochs=4)
    assert [bool(values) for values in watch.values] == [True, False, True, False]
    assert norms.values == {0: watch.values[0], 2: watch.values[2]}
    layers = "gradient_norm/dense", "gradient_norm/dense_2", "weight_norm/dense"
    assert {*layers, "weight_norm/dense_2"} <= watch.values[0].keys()
    outputs = {name for name in watch.values[0] if name.startswith("activation_rms/")}
    assert outputs == {f"activation_rms/{name}" for name in ("dense", "dropout", "dense_2")}


def test_no_bit_changes():
    assert weights_digest(fitted([Norms()])) == weights_digest(fitted())


def test_the_values_are_those_of_numpy(rng):
    layers = [RNN(3, return_sequences=True), Flatten(), Dropout(0.5), Dense(2, "softmax")]
    model = Sequential(layers, dtype="float64").build(Signal(5, 2), 0)
    x, labels = rng.normal(size=(20, 5, 2)), np.arange(20) % 2
    norms, watch = Norms(), Watch()
    trainer = Trainer(SGD(0.1), epochs=1, batch_size=None, threads=1)
    trainer.fit(model, {"train": (x, labels), "val": (x, labels)}, [norms, watch])
    U, V, b = (model.params["rnn"][k] for k in "UVb")
    h, states = np.zeros((20, 3)), []
    for t in range(5):
        h = np.tanh(x[:, t] @ U + h @ V + b)
        states.append(h)
    found = norms.values[0]
    assert found["activation_rms/rnn"] == pytest.approx(np.sqrt(np.mean(np.square(states))))
    assert found["activation_rms/flatten"] == found["activation_rms/dropout"]
    p = model.predict_proba(x)
    assert found["activation_rms/dense"] == pytest.approx(np.sqrt(np.mean(p**2)))
    assert found["weight_norm/rnn"] == pytest.approx(
        np.sqrt(sum(np.square(w).sum() for w in (U, V, b)))
    )
    gradient = np.concatenate([np.ravel(g) for g in watch.gradients["rnn"].values()])
    assert found["gradient_norm/rnn"] == pytest.approx(np.linalg.norm(gradient))


def test_the_finder_changes_nothing():
    model, trainer = toy.model(), toy.trainer()
    task = trainer.prepare(model, toy.data())
    before = weights_digest(model)
    found = find_learning_rate(trainer, model, task)
    assert weights_digest(model) == before
    assert trainer.optimizer.learning_rate == 0.2
    trainer.fit(model, task)
    assert weights_digest(model) == weights_digest(fitted())
    assert found == find_learning_rate(trainer, toy.model(), toy.data())


def test_the_rates_grow_and_the_suggestion_is_one_of_them():
    options = {"schedule": Exponential(), "warmup_epochs": 2.0}
    trainer = Trainer(Adam(0.3, **options), threads=1)
    found = find_learning_rate(trainer, toy.model(), toy.data(), 1e-5, 1.0, 40)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1.0, 40)[: len(found.rates)])
    assert len(found.losses) == len(found.rates)
    assert found.suggestion in found.rates
    assert 1e-4 < found.suggestion < 1
    assert np.isfinite(found.losses).all()


def test_it_ends_where_the_loss_explodes():
    trainer = Trainer(SGD(0.1), "categorical_cross_entropy", threads=1)
    found = find_learning_rate(trainer, toy.model(), toy.data(), 1e-3, 1e12, 200)
    assert 20 < len(found.rates) < 200


def test_layers_keep_their_share():
    optimizer = SGD(0.5, layers={"dense": {"learning_rate": 0.05, "schedule": Exponential()}})
    taken = {}

    trainer = Trainer(optimizer, threads=1)
    step = SGD.step

    def spy(self, params, grads, *place):
        taken.setdefault("ratio", set()).add(
            round(self.rate("dense", *place) / self.rate("dense_2", *place), 9)
        )
        step(self, params, grads, *place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SGD, "step", spy)
        find_learning_rate(trainer, toy.model(), toy.data(), steps=20)
    assert taken["ratio"] == {0.1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Norms(every=0), r"callbacks\.norms\.every=0 must be 1 epoch or more, or null"),
        (lambda: found_with(low=0), r"needs low=0 above 0"),
        (lambda: found_with(steps=5), r"steps=5 20 or more"),
        (lambda: found_with(low=2, high=1), r"high=1 above it"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def found_with(**options):
    return find_learning_rate(toy.trainer(), toy.model(), toy.data(), **options)


def test_a_run_is_told():
    run = SimpleNamespace(lines=[])
    run.trainer, run.model = toy.trainer(), toy.model()
    run.task = run.trainer.prepare(run.model, toy.data())
    LearningRateFinder(steps=None).on_run_start(run)
    assert run.lines == []
    LearningRateFinder(steps=30, low=1e-4).on_run_start(run)
    assert run.lines[0].startswith("rate     the loss falls fastest at optimizer.learning_rate=")
