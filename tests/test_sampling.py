"""Which clips are trained on, what each counts, and what they are trained towards."""

import numpy as np
import pytest
import torch
import toy

from nnjit.errors import ConfigError
from nnjit.layers import Dense, Flatten, Signal
from nnjit.model import Sequential
from nnjit.storage.files import weights_digest
from nnjit.training import sampling
from nnjit.training.callbacks import Callback
from nnjit.training.optimizers import SGD
from nnjit.training.trainer import Trainer

F = torch.nn.functional


@pytest.mark.parametrize("counts", [(30, 10, 5), (7, 7, 7), (1, 40)])
def test_balanced_draws_as_many_of_each_class(counts, rng):
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    order = sampling.order("balanced", labels, rng)
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order])
    assert drawn.sum() == len(labels)
    assert np.ptp(drawn) <= 1
    times = np.bincount(order, minlength=len(labels))
    for k in range(len(counts)):  # no clip comes again before all of its class have come
        assert np.ptp(times[labels == k]) <= 1
    assert not np.array_equal(labels[order], np.sort(labels[order]))


def test_balanced_weights_are_those_of_scikit_learn(rng):
    from sklearn.utils.class_weight import compute_class_weight

    labels = rng.integers(0, 3, 50)
    labels[:20] = 2
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(sampling.class_weights("balanced", labels, 3), expected)


def test_weights_by_name_and_label():
    labels = np.array([0, 1, 2])
    found = sampling.class_weights({"c": 2.0, 0: 3}, labels, 3, ("a", "b", "c"))
    assert found.tolist() == [3, 1, 2]
    assert sampling.class_weights(None, labels, 3) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "weighted"}, "trainer.sampler=weighted does not exist: choose from shuffle"),
        ({"label_smoothing": 1.0}, "trainer.label_smoothing=1.0 must be from 0"),
        ({"class_weight": "even"}, "trainer.class_weight=even does not exist: use balanced"),
        ({"class_weight": {"low": 0.0}}, "trainer.class_weight.low=0.0 must be above 0"),
        ({"class_weight": {"x": 1.0}}, "names 'x': choose from low, high, labels from 0 to 1"),
        ({"class_weight": {2: 1.0}}, "names '2': choose from low, high"),
        ({"batch_size": 0}, "trainer.batch_size=0 must be a whole number, 1 or more"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        toy.trainer(**options).prepare(toy.model(), toy.data())


def one_step(x, labels, units, loss, activation, **options):
    """Return the weights before and after one step on one batch of all."""
    model = Sequential([Flatten(), Dense(units, activation)], dtype="float64")
    model.build(Signal(1, x.shape[2]), 3)
    before = toy.weights(model)
    settings = {"epochs": 1, "batch_size": None, "threads": 1, **options}
    Trainer(SGD(0.1), loss, **settings).fit(model, {"train": (x, labels)})
    return before, toy.weights(model)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, {0: 0.5, 1: 2.0, 2: 3.0}])
@pytest.mark.filterwarnings("ignore:trainer.monitor")
def test_a_step_equals_torch(smoothing, weights, rng):
    x, labels = rng.normal(size=(20, 1, 4)), np.arange(20) % 3
    options = {"label_smoothing": smoothing, "class_weight": weights}
    kinds = 3, "categorical_cross_entropy", "softmax"
    before, after = one_step(x, labels, *kinds, **options)
    W, b = (torch.tensor(before[f"dense.{k}"], requires_grad=True) for k in "Wb")
    each = F.cross_entropy(
        torch.tensor(x[:, 0]) @ W + b,
        torch.tensor(labels),
        label_smoothing=smoothing,
        reduction="none",
    )
    counted = torch.tensor([(weights or {}).get(int(k), 1.0) for k in labels])
    (each * counted).mean().backward()
    for key, leaf in (("dense.W", W), ("dense.b", b)):
        expected = before[key] - 0.1 * leaf.grad.numpy()
        np.testing.assert_allclose(after[key], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:trainer.monitor")
def test_a_smoothed_step_of_one_unit_equals_torch(rng):
    x, labels = rng.normal(size=(20, 1, 4)), np.arange(20) % 2
    kinds = 1, "binary_cross_entropy", "sigmoid"
    before, after = one_step(x, labels, *kinds, label_smoothing=0.2)
    W, b = (torch.tensor(before[f"dense.{k}"], requires_grad=True) for k in "Wb")
    z = (torch.tensor(x[:, 0]) @ W + b)[:, 0]
    F.binary_cross_entropy_with_logits(z, torch.tensor(labels * 0.8 + 0.1)).backward()
    expected = before["dense.W"] - 0.1 * W.grad.numpy()
    np.testing.assert_allclose(after["dense.W"], expected, rtol=1e-12, atol=1e-14)


class Batches(Callback):
    """Keeps the batches it hears of."""

    def __init__(self):
        self.heard = []

    def on_batch_end(self, progress):
        self.heard.append((progress.epoch, progress.batch))


def fitted(callbacks=(), **options):
    model = toy.model(rate=0.0)
    history = toy.trainer(**options).fit(model, toy.data(), callbacks)
    return weights_digest(model), history


def test_no_batch_size_is_one_batch():
    heard = Batches()
    digest, _ = fitted([heard], batch_size=None)
    assert heard.heard == [(0, 0), (1, 0), (2, 0)]
    assert digest == fitted(batch_size=50)[0]


def test_sets_are_evaluated_by_the_plain_loss():
    """Whatever training does: the same weights have the same values."""
    changed = {"label_smoothing": 0.3, "class_weight": {0: 5.0}, "sampler": "balanced"}
    model, data = toy.model(), toy.data()
    toy.trainer(**changed).fit(model, data)
    x = model.check(data.val.codes)
    values = [
        toy.trainer(**options).evaluate(model, x, data.val.labels).values
        for options in ({}, changed)
    ]
    assert values[0] == values[1]
    history = toy.trainer(learning_rate=1e-30, epochs=1, **changed).fit(model, data)
    assert history.last.sets["val"].values["loss"] == values[0]["loss"]


@pytest.mark.parametrize(
    "options",
    [{"sampler": "balanced"}, {"class_weight": {0: 2.0}}, {"label_smoothing": 0.1}],
    ids=str,
)
def test_each_changes_the_weights_and_repeats_them(options):
    assert fitted(**options)[0] == fitted(**options)[0] != fitted()[0]
