import numpy as np
import pytest
from registry import both_inputs, every_cell, inputs

from nnjit.errors import ConfigError, ShapeError
from nnjit.layers import Dense, Dropout, Flatten
from nnjit.model import Sequential
from nnjit.training.gradcheck import check_gradients


def built(layers, spec):
    return Sequential(layers).build(spec, seed=0)


def network(cell, spec):
    """Return a float32 model with every layer of the library."""
    stack = [cell.layer(3, return_sequences=True), Flatten(), Dense(4, "tanh"), Dropout(0.5)]
    return built([*stack, Dense(2, "softmax")], spec)


@every_cell
@both_inputs
def test_right_gradients(cell, kind, rng):
    x, spec = inputs(kind, 5, 7, rng)
    model = network(cell, spec)
    report = check_gradients(model, x, [0, 1, 1, 0, 1], samples=10)
    names = {f"{layer}.{name}" for layer, group in model.params.items() for name in group}
    assert report.ok, str(report)
    assert set(report.errors) == names
    assert max(report.errors.values()) < 1e-7
    assert all(name in str(report) for name in names)


@pytest.mark.parametrize(
    ("units", "activation", "loss"),
    [
        (3, "softmax", "categorical_cross_entropy"),
        (1, "sigmoid", "binary_cross_entropy"),
        (2, {"name": "softmax", "temperature": 2.5}, "msle"),
    ],
)
def test_losses_and_flat_codes(units, activation, loss, rng):
    x, spec = inputs("codes", 5, 7, rng)
    model = built([Flatten(), Dense(units, activation)], spec)
    assert check_gradients(model, x, [0, 1, 1, 0, 1], loss=loss).ok


@every_cell
@pytest.mark.parametrize("fault", ["scaled", "forgotten", "nan"])
def test_wrong_gradients(cell, fault, rng, monkeypatch):
    x, spec = inputs("codes", 5, 7, rng)
    model = network(cell, spec)
    kind = type(model.layers[0])
    right = kind.backward

    def backward(self, dy, cache):
        dx, grads = right(self, dy, cache)
        V = grads.pop("V")
        if fault != "forgotten":
            grads["V"] = V * (1.001 if fault == "scaled" else np.nan)
        return dx, grads

    monkeypatch.setattr(kind, "backward", backward)
    report = check_gradients(model, x, [0, 1, 1, 0, 1])
    assert not report.ok
    wrong = [line.split()[0] for line in str(report).splitlines() if line.endswith("wrong")]
    assert wrong == [f"{model.layers[0].name}.V"]


@every_cell
def test_the_model_stays(cell, rng):
    x, spec = inputs("codes", 5, 7, rng)
    model = network(cell, spec)
    before = {name: (w, w.copy()) for group in model.params.values() for name, w in group.items()}
    check_gradients(model, x, [0, 1, 1, 0, 1], samples=2)
    assert model.dtype == "float32"
    assert model.layers[3].rate == 0.5
    after = {name: w for group in model.params.values() for name, w in group.items()}
    for name, (array, values) in before.items():
        assert after[name] is array
        np.testing.assert_array_equal(array, values)


def test_samples_follow_the_seed(rng):
    x, spec = inputs("codes", 5, 7, rng)
    model = built([Flatten(), Dense(2, "softmax")], spec)
    first, again, other = (
        check_gradients(model, x, [0, 1, 1, 0, 1], samples=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.samples == {"dense.W": 3, "dense.b": 2}


def test_errors(rng):
    x, spec = inputs("codes", 5, 7, rng)
    model = built([Flatten(), Dense(2, "softmax")], spec)
    with pytest.raises(ShapeError, match="5 clips and 2 labels"):
        check_gradients(model, x, [0, 1])
    with pytest.raises(ConfigError, match="needs sigmoid"):
        check_gradients(model, x, [0, 1, 1, 0, 1], loss="binary_cross_entropy")
    with pytest.raises(ShapeError, match=r"integer codes \(N, 7\)"):
        check_gradients(model, x[:, :6], [0, 1, 1, 0, 1])
    with pytest.raises(ConfigError, match="not built"):
        check_gradients(Sequential([Flatten(), Dense(2)]), x, [0, 1, 1, 0, 1])
