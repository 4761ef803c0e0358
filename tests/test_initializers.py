import numpy as np
import pytest
from registry import both_dtypes

from nnjit import initializers
from nnjit.errors import ConfigError
from nnjit.initializers import INITIALIZERS, fill
from nnjit.training.optimizers import SGD

SHAPE = (300, 200)  # (fan in, fan out)

# name -> standard deviation of a matrix of SHAPE
DEVIATIONS = {
    "zeros": 0,
    "ones": 0,
    "normal": 0.05,
    "xavier": np.sqrt(2 / 500),
    "xavier_uniform": np.sqrt(2 / 500),
    "he": np.sqrt(2 / 300),
    "lecun": np.sqrt(1 / 300),
    "orthogonal": np.sqrt(1 / 300),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_mean_and_variance(name, rng):
    w = initializers.get(name)(SHAPE, rng)
    assert w.shape == SHAPE
    assert w.std() == pytest.approx(DEVIATIONS[name], rel=0.02)
    assert w.mean() == pytest.approx(float(name == "ones"), abs=0.002)


def test_distributions(rng):
    bound = np.sqrt(6 / 500)
    uniform = initializers.xavier_uniform(SHAPE, rng)
    assert 0.99 * bound < np.abs(uniform).max() <= bound
    assert np.abs(initializers.xavier(SHAPE, rng)).max() > 3 * np.sqrt(2 / 500)  # has tails


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 1)], ids=str)
def test_orthogonal(shape, rng):
    w = initializers.orthogonal(shape, rng)
    assert w.shape == shape
    product = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-14)


def test_axes_before_the_last_two_count_with_both_fans(rng):
    shape = (5, 40, 30)  # Keras: fan_in 200, fan_out 150
    for name, variance in {"xavier": 2 / 350, "he": 2 / 200, "lecun": 1 / 200}.items():
        assert initializers.get(name)(shape, rng).var() == pytest.approx(variance, rel=0.1)
    bound = np.sqrt(6 / 350)
    assert np.abs(initializers.xavier_uniform(shape, rng)).max() == pytest.approx(bound, rel=0.01)
    w = initializers.orthogonal(shape, rng).reshape(200, 30)
    np.testing.assert_allclose(w.T @ w, np.eye(30), rtol=0, atol=1e-13)


def test_orthogonal_signs_are_fair(rng):
    """Without the sign fix of QR, the trace has a bias (and a 1x1 matrix always one sign)."""
    ones = [initializers.orthogonal((1, 1), rng).item() for _ in range(200)]
    assert 60 < np.sum(np.array(ones) > 0) < 140
    traces = [np.trace(initializers.orthogonal((4, 4), rng)) for _ in range(400)]
    assert np.mean(traces) == pytest.approx(0, abs=0.25)


@both_dtypes
@pytest.mark.parametrize("name", INITIALIZERS)
def test_fill_follows_the_generator(name, dtype):
    first, again, other = (
        initializers.fill(name, (4, 3), np.random.default_rng(seed), dtype) for seed in (0, 0, 1)
    )
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == (name not in ("zeros", "ones"))


def test_error():
    message = "initializer 'glorot' does not exist: choose from zeros, ones, .*orthogonal"
    with pytest.raises(ConfigError, match=message):
        initializers.get("glorot")


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(4, 32), (32, 4)])
def test_every_matrix_can_be_trained_in_place(name, shape):
    """An array in another order would be copied by the optimiser, and stay as it was."""
    w = fill(name, shape, np.random.default_rng(0), np.float32)
    before = w.copy()
    SGD(1.0).step({"layer": {"w": w}}, {"layer": {"w": np.ones(shape, np.float32)}})
    np.testing.assert_array_equal(w, before - 1)


def test_an_array_that_would_be_copied_is_refused():
    w = np.ones((3, 4)).T
    with pytest.raises(ConfigError, match="must be in C order"):
        SGD(1.0).step({"layer": {"w": w}}, {"layer": {"w": np.ones((4, 3))}})
