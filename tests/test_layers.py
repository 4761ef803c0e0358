"""Dense, Flatten, Dropout, and the errors of every layer."""

import naive
import numpy as np
import pytest
from registry import (
    assert_gradient,
    both_dtypes,
    build,
    forward,
    forward_backward,
    from_tiles,
    to_tiles,
)

from nnjit.errors import ConfigError, ShapeError
from nnjit.layers import (
    GRU,
    LSTM,
    RNN,
    Bptt,
    Codes,
    Dense,
    Dropout,
    FlatCodes,
    Flatten,
    Signal,
    Vector,
)
from nnjit.layers.dense import _LONG
from nnjit.runtime import threads

# Dense: D on both sides of _LONG, where the sum is cut; whole, broken and several tiles.


@pytest.mark.parametrize("N", [1, 16, 40])
@pytest.mark.parametrize("D", [1, 7, _LONG - 1, _LONG, _LONG + 5])
def test_dense_on_vectors(N, D, rng):
    layer = build(Dense(3, "tanh"), Vector(D))
    x, dy = rng.normal(size=(N, D)), rng.normal(size=(N, 3))
    y, dx, grads = forward_backward(layer, x, dy)
    W, b = layer.params["W"], layer.params["b"]
    expected = np.tanh(naive.dense(x, W, b))
    dz = dy * (1 - expected**2)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dx, dz @ W.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads["W"], x.T @ dz, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads["b"], dz.sum(axis=0), rtol=0, atol=1e-12)


@pytest.mark.interpreted
@pytest.mark.parametrize("N", [1, 16, 40])
@pytest.mark.parametrize("T", [1, 9, _LONG - 1, _LONG, _LONG + 5])
@pytest.mark.parametrize("levels", [2, 5])
def test_dense_on_codes_equals_one_hot(N, T, levels, rng):
    layer = build(Dense(3, "tanh"), FlatCodes(T, levels))
    codes = rng.integers(0, levels, (N, T), np.uint8)
    dy = rng.normal(size=(N, 3))
    y, dx, grads = forward_backward(layer, codes, dy)
    x = naive.flatten(naive.one_hot(codes, levels))
    expected = np.tanh(naive.dense(x, **layer.params))
    dz = dy * (1 - expected**2)
    assert dx is None
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(grads["W"], x.T @ dz, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads["b"], dz.sum(axis=0), rtol=0, atol=1e-12)


@pytest.mark.interpreted
@both_dtypes
def test_row_gradient_adds_in_place(dtype, rng):
    layer = build(Dense(4), FlatCodes(_LONG + 1, 3), dtype)
    codes = rng.integers(0, 3, (20, _LONG + 1), np.uint8)
    _, cache = layer.forward(to_tiles(codes), training=True)
    _, grads = layer.backward(to_tiles(rng.normal(size=(20, 4)).astype(dtype), "zeros"), cache)
    W = layer.params["W"].copy()
    grads["W"].add_to(W, -0.5)
    dense = grads["W"].dense()
    assert W.dtype == dense.dtype == dtype
    expected = layer.params["W"] - 0.5 * dense
    np.testing.assert_allclose(W, expected, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("spec", [Vector(_LONG + 5), FlatCodes(_LONG + 5, 3)], ids=str)
def test_dense_bits_do_not_depend_on_threads(spec, rng, set_threads, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_A_SPAN", 1)
    layer = build(Dense(5), spec, "float32")
    x = rng.normal(size=(50, _LONG + 5))
    x = x if isinstance(spec, Vector) else rng.integers(0, 3, x.shape, np.uint8)
    dy, runs = rng.normal(size=(50, 5)), []
    for n in (1, 2, 3):
        set_threads(n)
        y, dx, grads = forward_backward(layer, x, dy)
        runs.append([y, grads["W"], grads["b"], 0 if dx is None else dx])
    for run in runs[1:]:
        for array, expected in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("activation", ["relu", "elu", {"name": "softmax", "temperature": 2.5}])
def test_dense_passes_gradients_through_its_activation(activation, rng):
    layer = build(Dense(3, activation), Vector(6))
    x, dy = rng.normal(size=(18, 6)), rng.normal(size=(18, 3))
    _, dx, grads = forward_backward(layer, x, dy)

    def f():
        return (forward(layer, x) * dy).sum()

    assert_gradient(f, x, dx, rng)
    assert_gradient(f, layer.params["W"], grads["W"], rng)
    assert_gradient(f, layer.params["b"], grads["b"], rng)


# Flatten.


def test_flatten_is_a_view(rng):
    layer = build(Flatten(), Signal(4, 3))
    x, dy = rng.normal(size=(18, 4, 3)), rng.normal(size=(18, 12))
    y, dx, grads = forward_backward(layer, x, dy)
    np.testing.assert_array_equal(y, naive.flatten(x))
    np.testing.assert_array_equal(dx, dy.reshape(x.shape))
    assert grads == {}
    tiles = to_tiles(x)
    assert np.shares_memory(layer.forward(tiles)[0], tiles)


def test_flatten_leaves_codes(rng):
    layer, codes = Flatten(), to_tiles(rng.integers(0, 4, (5, 9), np.uint8))
    assert layer.build(Codes(9, 4), rng, "float32") == FlatCodes(9, 4)
    assert layer.forward(codes)[0] is codes


def test_flatten_leaves_vectors(rng):
    layer, x = build(Flatten(), Vector(5)), rng.normal(size=(18, 5))
    y, dx, grads = forward_backward(layer, x, 2 * x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, 2 * x)
    assert grads == {}


# Dropout.


@both_dtypes
@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_dropout(rate, dtype, rng):
    layer = build(Dropout(rate), Vector(500))
    x = rng.normal(size=(40, 500)).astype(dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    y, dx, grads = forward_backward(layer, x, dy, rng=np.random.default_rng(1))
    keep = y != 0
    assert y.dtype == dtype
    assert grads == {}
    np.testing.assert_allclose(y, naive.dropout(x, keep, rate), rtol=1e-6)
    np.testing.assert_allclose(dx, naive.dropout(dy, keep, rate), rtol=1e-6)
    assert keep.mean() == pytest.approx(1 - rate, abs=0.015)  # 20,000 draws: 4 deviations
    assert keep.mean(axis=1).std() > 0  # each clip has a mask of its own


def test_dropout_keeps_the_expectation(rng):
    layer, x = build(Dropout(0.3), Vector(20)), np.full((48, 20), 2.0)
    mean = np.mean([forward(layer, x, training=True, rng=rng) for _ in range(100)])
    assert mean == pytest.approx(2, abs=0.02)


def test_dropout_is_off_outside_training(rng):
    layer, x = build(Dropout(0.5), Vector(20)), rng.normal(size=(5, 20))
    state = rng.bit_generator.state
    np.testing.assert_array_equal(forward(layer, x, rng=rng), x)
    np.testing.assert_array_equal(forward(layer, x), x)
    assert rng.bit_generator.state == state


def test_dropout_at_rate_0_draws_nothing(rng):
    layer, x = build(Dropout(0), Vector(20)), rng.normal(size=(5, 20))
    dy = rng.normal(size=x.shape)
    y, dx, _ = forward_backward(layer, x, dy)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, dy)


def test_dropout_follows_its_generator(rng):
    layer, x = build(Dropout(0.5), Signal(4, 8)), rng.normal(size=(5, 4, 8))
    first, again, other = (
        forward(layer, x, training=True, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# Errors name the value and the remedy.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RNN(0), "hidden_size=0 must be 1 or more"),
        (lambda: GRU(-3), "hidden_size=-3 must be 1 or more"),
        (lambda: Bptt(0), "checkpoint=0 must be auto, off or a number of steps"),
        (lambda: Bptt(-5), "checkpoint=-5 must be auto"),
        (lambda: Bptt("on"), "checkpoint=on must be auto"),
        (lambda: Bptt(truncate=0), "truncate=0 must be 1 step or more"),
        (lambda: Dense(0), "units=0 must be 1 or more"),
        (lambda: Dense(1, "softmax"), "softmax gives 1 for any input: use activation=sigmoid"),
        (lambda: Dense(1, "selu"), "activation 'selu' does not exist: choose from"),
        (lambda: Dropout(1.0), "rate=1.0 must be from 0 to below 1"),
        (lambda: Dropout(-0.1), "rate=-0.1 must be from 0 to below 1"),
        (lambda: Dropout(float("nan")), "rate=nan must be from 0 to below 1"),
        (lambda: Codes(10, 257), "levels=257 must be from 2 to 256"),
        (lambda: Codes(10, 1), "levels=1 must be from 2 to 256"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "spec", "error", "message"),
    [
        (RNN(1), Vector(8), ShapeError, r"rnn expected .*got \(N, 8\): set return_sequences=true"),
        (GRU(1), Vector(8), ShapeError, r"gru expected .*got \(N, 8\): set return_sequences=true"),
        (LSTM(1), FlatCodes(5, 4), ShapeError, r"got \(N, 20\) codes: .*move Flatten after it"),
        (Dense(1), Codes(5, 4), ShapeError, r"got \(N, 5, 4\) codes: put Flatten before"),
        (Dropout(), Codes(5, 4), ConfigError, "dropout cannot follow the input: codes are symbols"),
        (Dropout(), FlatCodes(5, 4), ConfigError, "dropout cannot follow the input"),
        (GRU(1, kernel_initializer="x"), Signal(5, 4), ConfigError, "initializer 'x' does not"),
        (Dense(1, bias_initializer="x"), Vector(5), ConfigError, "initializer 'x' does not exist"),
    ],
    ids=str,
)
def test_wrong_neighbours(layer, spec, error, message):
    with pytest.raises(error, match=message):
        build(layer, spec)


def test_dropout_asks_for_its_generator():
    layer = build(Dropout(0.5), Vector(2))
    with pytest.raises(ConfigError, match=r"Dropout needs rng .* model.forward\(.*rng=\.\.\.\)"):
        forward(layer, np.ones((1, 2)), training=True)


def test_tiles_of_the_tests_go_both_ways(rng):
    x = rng.normal(size=(21, 3, 2))
    assert to_tiles(x).shape == (2, 3, 2, 16)
    np.testing.assert_array_equal(from_tiles(to_tiles(x), 21), x)
