import numpy as np
import pytest
import torch
import twins
from registry import LEVELS, as_signal, both_dtypes, both_inputs, every_cell, inputs

from nnjit.errors import ConfigError, ShapeError
from nnjit.layers import GRU, LSTM, RNN, Codes, Dense, Dropout, Flatten, Signal
from nnjit.layers.gradients import as_array
from nnjit.model import Sequential


def seed_head():
    return [Flatten(), Dense(64, "relu"), Dropout(0.5), Dense(2, "softmax")]


def small(cell, dtype="float32", rate=0.5):
    """Return a network of the seed's form, small; its first Dense sums in parts from T=512 on."""
    stack = [cell.layer(2, return_sequences=True), Flatten(), Dense(8, "tanh"), Dropout(rate)]
    return Sequential([*stack, Dense(2, {"name": "softmax", "temperature": 2.5})], dtype)


def all_grads(grads):
    """Flatten gradients to one dict of arrays."""
    return {
        f"{layer}.{name}": as_array(g)
        for layer, group in grads.items()
        for name, g in group.items()
    }


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([], 10_240_194),
        ([RNN(1, return_sequences=True)], 640_212),
        ([GRU(1, return_sequences=True)], 640_248),
    ],
    ids=["ff", "rnn", "gru"],
)
def test_parameters_of_the_seed_networks(first, expected):
    model = Sequential([*first, *seed_head()]).build(Codes(10_000, 16))
    assert model.n_params() == expected
    assert f"{expected:,}" in model.summary().splitlines()[-1]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [  # D = 5, H = 3
        (RNN(3), 3 * (5 + 3 + 1)),
        (GRU(3), 3 * 3 * (5 + 3 + 1)),
        (GRU(3, reset_after=True), 3 * 3 * (5 + 3 + 1) + 3),
        (LSTM(3), 4 * 3 * (5 + 3 + 1)),
    ],
    ids=str,
)
def test_parameters_of_cells(layer, expected):
    Sequential([layer, Dense(1)]).build(Signal(7, 5))
    assert layer.n_params() == expected


def test_summary():
    model = Sequential([GRU(3, return_sequences=True), *seed_head()]).build(Codes(20, 16))
    assert [line.split()[0] for line in model.summary().splitlines() if line[0] != "-"] == [
        *("input", "gru", "flatten", "dense", "dropout", "dense_2", "total")
    ]
    assert "(N, 20, 3)" in model.summary()
    assert "float32" in model.summary()


@every_cell
@both_inputs
def test_logits_and_gradients_equal_torch(cell, kind, rng):
    x, spec = inputs(kind, 37, 600, rng)
    model = small(cell, "float64", rate=0).build(spec)
    rnn, first, head = (twins.leaves(params) for params in model.params.values())
    hidden = cell.torch(torch.tensor(as_signal(x)), **rnn).flatten(1)
    expected = torch.tanh(hidden @ first["W"] + first["b"]) @ head["W"] + head["b"]
    dz = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(dz))

    z, caches = model.forward(x, training=True)
    np.testing.assert_allclose(z, expected.detach(), rtol=0, atol=1e-12)
    grads = model.backward(dz, caches)
    assert {layer: set(g) for layer, g in grads.items()} == {
        k: set(v) for k, v in model.params.items()
    }
    for group, leaves in zip(model.params, (rnn, first, head), strict=True):
        for name, gradient in grads[group].items():
            expected = leaves[name].grad
            np.testing.assert_allclose(as_array(gradient), expected, rtol=1e-10, atol=1e-10)


@both_inputs
@pytest.mark.parametrize("N", [1, 300])  # 300: more than one batch of predictions
def test_predict(kind, N, rng):
    x, spec = inputs(kind, N, 9, rng)
    model = Sequential([GRU(3), Dense(3, "softmax")]).build(spec)
    p = model.predict_proba(x)
    assert p.shape == (N, 3)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(x), p.argmax(axis=1))
    rows = [model.predict_proba(x[n : n + 1])[0] for n in range(N)]
    np.testing.assert_allclose(p, rows, rtol=0, atol=1e-6)


def test_predict_with_one_unit(rng):
    x, spec = inputs("codes", 20, 9, rng)
    model = Sequential([Flatten(), Dense(1, "sigmoid")]).build(spec)
    p = model.predict_proba(x)
    assert p.shape == (20, 1)
    np.testing.assert_array_equal(model.predict(x), p[:, 0] > 0.5)
    assert 0 < model.predict(x).sum() < 20


@every_cell
@both_dtypes
def test_threads_leave_the_bits(cell, dtype, rng, set_threads):
    x, spec = inputs("codes", 50, 600, rng)
    model, runs = small(cell, dtype).build(spec), []
    for n in (1, 2, 3):
        set_threads(n)
        z, caches = model.forward(x, training=True, rng=np.random.default_rng(0))
        runs.append({"z": z, **all_grads(model.backward(z, caches))})
    for run in runs[1:]:
        for name, expected in runs[0].items():
            np.testing.assert_array_equal(run[name], expected, err_msg=name)


@every_cell
def test_inputs_and_parameters_stay(cell, rng):
    x, spec = inputs("signal", 20, 30, rng)
    model = small(cell, "float64").build(spec)
    x_before = x.copy()
    before = {
        f"{k}.{name}": w.copy() for k, group in model.params.items() for name, w in group.items()
    }
    z, caches = model.forward(x, training=True, rng=rng)
    dz = rng.normal(size=z.shape)
    dz_before = dz.copy()
    model.backward(dz, caches)
    model.predict(x)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dz, dz_before)
    for name, w in all_grads(model.params).items():
        np.testing.assert_array_equal(w, before[name], err_msg=name)


@every_cell
def test_nan_stays_in_its_clip(cell, rng):
    x, spec = inputs("signal", 20, 600, rng)
    model = small(cell).build(spec)
    clean, _ = model.forward(x)
    x[7, 300, 1] = np.nan
    z, _ = model.forward(x)
    others = np.arange(20) != 7
    assert np.isnan(z[7]).all()
    np.testing.assert_array_equal(z[others], clean[others])


def test_evaluation_draws_no_random_numbers(rng):
    """Evaluating never changes training (SPEC.md, section 5)."""
    x, spec = inputs("codes", 20, 9, rng)
    model = Sequential([RNN(1, return_sequences=True), *seed_head()]).build(spec)
    state = rng.bit_generator.state
    z, _ = model.forward(x, rng=rng)
    np.testing.assert_array_equal(z, model.forward(x)[0])
    model.predict(x)
    assert rng.bit_generator.state == state
    model.forward(x, training=True, rng=rng)
    assert rng.bit_generator.state != state


def test_rows_of_a_data_set(rng):
    x, spec = inputs("signal", 40, 9, rng)
    model = Sequential([LSTM(3), Dense(2)]).build(spec)
    rows = 1 + rng.permutation(39)[:19]
    x[0] = np.nan  # not among the rows: not to be seen, not even in the lanes that pad a tile
    dz = np.ones((19, 2), np.float32)
    z, caches = model.forward_rows(model.check(x), rows, training=True)
    expected, expected_caches = model.forward(x[rows], training=True)
    np.testing.assert_array_equal(z, expected)
    grads = all_grads(model.backward(dz, caches))
    for name, gradient in all_grads(model.backward(dz, expected_caches)).items():
        np.testing.assert_array_equal(grads[name], gradient, err_msg=name)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds(seed):
    """Seed 0 is a seed; None is none (SPEC.md, section 5)."""

    def draw(seed):
        return Sequential([Flatten(), Dense(4)]).build(Codes(9, 4), seed).layers[-1].params["W"]

    np.testing.assert_array_equal(draw(seed), draw(seed))
    np.testing.assert_array_equal(draw(seed), draw(np.random.default_rng(seed)))
    assert (draw(seed) != draw(seed + 1)).all()
    assert (draw(None) != draw(None)).all()


@every_cell
@both_inputs
@both_dtypes
def test_config_round_trip(cell, kind, dtype, rng):
    x, spec = inputs(kind, 3, 9, rng)
    model = small(cell, dtype).build(spec)
    again = Sequential.from_config(model.config())
    assert again.config() == model.config()
    assert again.summary() == model.summary()
    for layer, group in model.params.items():
        for name, w in group.items():
            assert again.params[layer][name].dtype == dtype
            again.params[layer][name][:] = w
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


# What a model refuses, and how it says so.


def codes_model():
    return Sequential([Flatten(), Dense(2)]).build(Codes(9, LEVELS))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 8), np.uint8), r"expected integer codes \(N, 9\), got uint8 \(2, 8\)"),
        (np.zeros(9, np.uint8), r"got uint8 \(9,\)"),
        (np.zeros((0, 9), np.uint8), r"got uint8 \(0, 9\)"),
        (np.zeros((2, 9, 1), np.uint8), r"got uint8 \(2, 9, 1\)"),
        (np.zeros((2, 9)), r"got float64 \(2, 9\)"),
        (np.zeros((2, 9), bool), r"got bool \(2, 9\)"),
        (np.full((2, 9), 16), "knows codes 0 to 15, got 16 to 16: encode .* with levels=16"),
        (np.full((2, 9), -1), "knows codes 0 to 15, got -1 to -1"),
        (np.full((2, 9), 256), "knows codes 0 to 15, got 256 to 256"),
    ],
    ids=["short", "one axis", "empty", "three axes", "floats", "bools", "16", "-1", "256"],
)
def test_codes_are_checked(x, message):
    model = codes_model()
    for use in (model.check, model.forward, model.predict):
        with pytest.raises(ShapeError, match=message):
            use(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 9)), r"expected signals \(N, 9, 3\), got .*\(2, 9\)"),
        (np.zeros((2, 9, 4)), r"got .*\(2, 9, 4\)"),
        (np.float64(0), r"got float64 \(\)"),
        (np.zeros((2, 8, 3)), r"got .*\(2, 8, 3\)"),
        (np.zeros((0, 9, 3)), r"got .*\(0, 9, 3\)"),
        (np.zeros((2, 9, 3), complex), "got complex128"),
        (np.full((2, 9, 3), "a"), "got <U1"),
        (np.full((2, 9, 3), None), "got object"),
    ],
    ids=["two axes", "features", "a number", "short", "empty", "complex", "strings", "objects"],
)
def test_signals_are_checked(x, message):
    with pytest.raises(ShapeError, match=message):
        Sequential([RNN(1), Dense(2)]).build(Signal(9, 3)).check(x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_integer_codes_of_any_width(dtype, rng):
    codes = rng.integers(0, LEVELS, (3, 9))
    model = codes_model()
    np.testing.assert_array_equal(model.predict(codes.astype(dtype)), model.predict(codes))
    np.testing.assert_array_equal(model.predict(codes.tolist()), model.predict(codes))


def test_signals_of_any_layout(rng):
    x = rng.normal(size=(3, 9, 2))
    model = Sequential([RNN(1), Dense(2)]).build(Signal(9, 2))
    expected = model.predict_proba(x)
    np.testing.assert_array_equal(model.predict_proba(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(model.predict_proba(x.astype("float32")), expected)


@pytest.mark.parametrize("use", ["summary", "config", "predict"])
def test_unbuilt(use):
    model = Sequential([Flatten(), Dense(2)])
    with pytest.raises(ConfigError, match="not built"):
        getattr(model, use)(*([[[0]]] if use == "predict" else []))


def test_wrong_models():
    with pytest.raises(ConfigError, match="the last layer of a model must be Dense"):
        Sequential([Flatten()])
    with pytest.raises(ConfigError, match="the last layer of a model must be Dense"):
        Sequential([])
    with pytest.raises(ConfigError, match="dtype=float16 does not exist: choose from float32"):
        Sequential([Dense(1)], dtype="float16")
    layer = Dense(2)
    with pytest.raises(ConfigError, match="twice"):
        Sequential([Flatten(), layer, layer])
