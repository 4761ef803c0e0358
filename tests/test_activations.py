import naive
import numpy as np
import pytest
import torch
from registry import assert_gradient, both_dtypes

from nnjit import activations
from nnjit.activations import ACTIVATIONS
from nnjit.errors import ConfigError

# Every activation, and every option once.
CASES = [{"name": name} for name in ACTIVATIONS] + [
    {"name": "leaky_relu", "slope": 0.2},
    {"name": "elu", "alpha": 0.5},
    {"name": "softmax", "temperature": 2.5},
    {"name": "softmax", "temperature": 0.5},
]
every_activation = pytest.mark.parametrize("case", CASES, ids=str)


@every_activation
def test_values(case, rng):
    z = rng.normal(0, 3, (20, 4))
    options = dict(case)
    expected = naive.ACTIVATIONS[options.pop("name")](z, **options)
    y = activations.get(case).forward(z.T).T
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)


@every_activation
def test_derivative(case, rng):
    activation = activations.get(case)
    z = rng.normal(0, 2, (4, 20))
    dy = rng.normal(size=z.shape)
    dz = activation.backward(dy, activation.forward(z), z)
    assert_gradient(lambda: (activation.forward(z) * dy).sum(), z, dz, rng, n=40)


@pytest.mark.parametrize("temperature", [0.5, 1, 5])
def test_softmax_derivative_has_the_temperature(temperature, rng):
    z, dy = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    leaf = torch.tensor(z, requires_grad=True)
    torch.softmax(leaf / temperature, dim=1).backward(torch.tensor(dy))
    softmax = activations.Softmax(temperature)
    dz = softmax.backward(dy.T, softmax.forward(z.T), z.T).T
    np.testing.assert_allclose(dz, leaf.grad, rtol=1e-12, atol=1e-15)


@every_activation
@both_dtypes
def test_extremes_stay_finite(case, dtype):
    activation = activations.get(case)
    z = np.array([[1000, -1000, 0, 1000], [-1000, -1000, 0, 1000]], dtype)
    y = activation.forward(z)
    dz = activation.backward(np.ones_like(z), y, z)
    assert y.dtype == dz.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(dz).all()


@every_activation
def test_nan_stays_in_its_clip(case):
    z = np.array([[0.5, np.nan, -1.0], [1.0, 2.0, 3.0]])
    y = activations.get(case).forward(z)
    assert np.isnan(y[0, 1])
    assert np.isfinite(y[:, [0, 2]]).all()


@every_activation
def test_inputs_stay(case, rng):
    activation = activations.get(case)
    z, dy = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    y = activation.forward(z)
    before = z.copy(), y.copy(), dy.copy()
    activation.backward(dy, y, z)
    np.testing.assert_array_equal((z, y, dy), before)


@every_activation
def test_config_round_trip(case):
    config = activations.get(case).config()
    assert case.items() <= config.items()
    assert activations.get(config).config() == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("gelu", r"activation 'gelu' does not exist: choose from identity, relu, .*softmax"),
        ({}, "activation 'None' does not exist"),
        ({"name": "elu", "slope": 1}, r"activation elu\.slope does not exist"),
        ({"name": "softmax", "temperature": 0}, "temperature=0 must be above 0: the default is 1"),
        ({"name": "softmax", "temperature": -1}, "temperature=-1 must be above 0"),
        ({"name": "softmax", "temperature": float("nan")}, "temperature=nan must be above 0"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises(ConfigError, match=message):
        activations.get(wrong)
