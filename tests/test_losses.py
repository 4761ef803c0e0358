import naive
import numpy as np
import pytest
import torch
from registry import assert_gradient, both_dtypes

from nnjit import activations
from nnjit.errors import ConfigError
from nnjit.training import losses
from nnjit.training.losses import LOSSES

F = torch.nn.functional


def softmax(temperature):
    return {"name": "softmax", "temperature": temperature}


def torch_outputs(z, activation):
    options = dict(activation)
    name = options.pop("name")
    if name == "softmax":
        return torch.softmax(z / options["temperature"], dim=1)
    return {"identity": lambda z: z, "sigmoid": torch.sigmoid, "relu": torch.relu}[name](z)


# Each: from logits z, the activation and targets y to one value per member of the batch.
TORCH = {
    "mse": lambda z, f, y: F.mse_loss(torch_outputs(z, f), y, reduction="none").mean(dim=1),
    "mae": lambda z, f, y: F.l1_loss(torch_outputs(z, f), y, reduction="none").mean(dim=1),
    "msle": lambda z, f, y: F.mse_loss(
        torch.log1p(torch_outputs(z, f)), torch.log1p(y), reduction="none"
    ).mean(dim=1),
    "categorical_cross_entropy": lambda z, f, y: F.cross_entropy(
        z / f["temperature"], y, reduction="none"
    ),
    "binary_cross_entropy": lambda z, f, y: F.binary_cross_entropy_with_logits(
        z, y, reduction="none"
    ).mean(dim=1),
}

SOFTMAXES = [softmax(1), softmax(2.5), softmax(0.5)]
CASES = [
    *[(name, f) for name in ("mse", "mae") for f in ({"name": "identity"}, {"name": "sigmoid"})],
    *[(name, f) for name in ("mse", "mae", "msle") for f in SOFTMAXES],
    ("msle", {"name": "sigmoid"}),
    ("msle", {"name": "relu"}),
    *[("categorical_cross_entropy", f) for f in SOFTMAXES],
    ("binary_cross_entropy", {"name": "sigmoid"}),
]
every_case = pytest.mark.parametrize(("name", "activation"), CASES, ids=str)


def targets(rng, N, units):
    """One-hot rows."""
    return np.eye(units)[rng.integers(0, units, N)]


def test_every_loss_has_a_case():
    assert {name for name, _ in CASES} == set(LOSSES) == set(TORCH) == set(naive.LOSSES)


@every_case
@pytest.mark.parametrize("units", [2, 5])
def test_equals_torch(name, activation, units, rng):
    z, y = rng.normal(0, 2, (30, units)), targets(rng, 30, units)
    leaf = torch.tensor(z, requires_grad=True)
    expected = TORCH[name](leaf, activation, torch.tensor(y))
    expected.sum().backward()
    value, dz = losses.get(name)(z, activations.get(activation), y)
    assert value.shape == (30,)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dz, leaf.grad, rtol=1e-12, atol=1e-14)


@every_case
def test_equals_the_formula_and_its_differences(name, activation, rng):
    z, y = rng.normal(size=(6, 3)), targets(rng, 6, 3)
    options = dict(activation)
    p = naive.ACTIVATIONS[options.pop("name")](z, **options)
    loss, function = losses.get(name), activations.get(activation)
    value, dz = loss(z, function, y)
    np.testing.assert_allclose(value, naive.LOSSES[name](p, y), rtol=1e-12)
    assert_gradient(lambda: loss(z, function, y)[0].sum(), z, dz, rng, n=18)


@every_case
def test_soft_targets(name, activation, rng):
    """Targets need not be 0 or 1."""
    z, y = rng.normal(size=(6, 3)), rng.dirichlet(np.ones(3), 6)
    expected = TORCH[name](torch.tensor(z), activation, torch.tensor(y))
    value, _ = losses.get(name)(z, activations.get(activation), y)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@every_case
@both_dtypes
def test_extreme_logits_stay_finite(name, activation, dtype):
    z = np.array([[1000, -1000], [-1000, 1000], [1000, 1000], [0, 0]], dtype)
    y = np.array([[0, 1], [0, 1], [1, 0], [0, 1]], dtype)
    value, dz = losses.get(name)(z, activations.get(activation), y)
    assert value.dtype == dz.dtype == dtype
    assert np.isfinite(value).all()
    assert np.isfinite(dz).all()


def test_cross_entropies_of_extreme_logits_are_exact():
    z, y = np.array([[-1000.0, 0.0]]), np.array([[1.0, 0.0]])
    value, dz = losses.get("categorical_cross_entropy")(z, activations.Softmax(), y)
    np.testing.assert_array_equal((value[0], *dz[0]), (1000, -1, 1))
    value, dz = losses.get("binary_cross_entropy")(z, activations.Sigmoid(), y)
    np.testing.assert_allclose(value, [(1000 + np.log(2)) / 2])
    np.testing.assert_array_equal(dz, [[-0.5, 0.25]])


@every_case
def test_inputs_stay(name, activation, rng):
    z, y = rng.normal(size=(6, 3)), targets(rng, 6, 3)
    before = z.copy(), y.copy()
    losses.get(name)(z, activations.get(activation), y)
    np.testing.assert_array_equal((z, y), before)


@pytest.mark.parametrize(
    ("name", "activation", "message"),
    [
        ("categorical_cross_entropy", "sigmoid", "needs softmax .* which has sigmoid"),
        ("binary_cross_entropy", "softmax", "needs sigmoid .* which has softmax"),
        ("msle", "tanh", "tanh gives any: use sigmoid, softmax or relu"),
        ("msle", "identity", "identity gives any: use sigmoid"),
    ],
)
def test_check_refuses(name, activation, message):
    with pytest.raises(ConfigError, match=message):
        losses.get(name).check(activations.get(activation))


@every_case
def test_check_accepts(name, activation):
    losses.get(name).check(activations.get(activation))


def test_unknown_name():
    message = "loss 'hinge' does not exist: choose from mse, mae, .*binary_cross_entropy"
    with pytest.raises(ConfigError, match=message):
        losses.get("hinge")
