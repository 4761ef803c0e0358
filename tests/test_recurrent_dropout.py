"""Recurrent dropout: one mask for all steps of a clip, on whatever a recurrent matrix takes."""

import pickle
from copy import deepcopy
from dataclasses import replace

import numba
import numpy as np
import pytest
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cells import cells
from registry import (
    as_signal,
    both_inputs,
    build,
    central_difference,
    forward,
    forward_backward,
    from_tiles,
    inputs,
    sample,
    to_tiles,
)

from nnjit import GRU, LSTM, RNN, Adam, Dense, Sequential, Signal, Trainer, check_gradients
from nnjit.cells import cell, evaluate
from nnjit.cells.compiled import kernels
from nnjit.cells.library import CELLS
from nnjit.cells.rewrite import with_mask
from nnjit.errors import ConfigError
from nnjit.kernels._lanes import LANES
from nnjit.layers import Bptt, Recurrent
from nnjit.storage.files import weights_digest
from nnjit.training.callbacks import Callback
from nnjit.training.checkpoint import TrainingState

MASKED = [name for name, made in CELLS.items() if made.matrices]
OFTEN = ("rnn", "gru", "gru_reset_after", "lstm")  # the others take long to compile
RATE, SEED = 0.4, 7


def rng_of_run():
    return np.random.default_rng(SEED)


def mask_of(layer, N):
    """Return the mask that `rng_of_run` draws, (N, H)."""
    tiles = -(-N // LANES)
    drawn = rng_of_run().random((tiles, 1, layer.hidden_size, LANES), np.float32)
    return from_tiles((drawn[:, 0] >= RATE) / (1 - RATE), N)


def layer_of(made, H, spec, dtype="float64", rate=RATE, **options):
    options = {"return_sequences": True, **options}
    return build(Recurrent(made, H, recurrent_dropout=rate, **options), spec, dtype)


def check(made, kind, H):
    """Compare outputs and gradients with NumPy, and gradients with central differences."""
    rng = np.random.default_rng(0)
    x, spec = inputs(kind, 5, 6, rng)
    layer, dy = layer_of(made, H, spec), rng.normal(size=(5, 6, H))
    y, dx, grads = forward_backward(layer, x, dy, rng=rng_of_run())
    masked, signal = with_mask(layer.cell), as_signal(x)
    states, steps = evaluate.forward(masked, signal, layer.params, mask=mask_of(layer, 5))
    expected = evaluate.backward(masked, signal, steps, dy, layer.params)
    np.testing.assert_allclose(y, states[masked.states[0]][:, 1:], 1e-7, 1e-9)
    if kind == "signal":
        np.testing.assert_allclose(dx, expected["x"], 1e-6, 1e-8)

    def loss():
        return (forward(layer, x, training=True, rng=rng_of_run()) * dy).sum()

    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, expected[name], 1e-6, 1e-8)
        for index in sample(gradient, 2, rng):
            wanted = central_difference(loss, layer.params[name], index)
            assert gradient[index] == pytest.approx(wanted, rel=1e-4, abs=1e-6), (name, index)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in MASKED],
)
@both_inputs
@pytest.mark.parametrize("H", [1, 3])
def test_equals_numpy_and_differences(name, kind, H):
    check(name, kind, H)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=15, suppress_health_check=list(HealthCheck))
@given(cells(), st.sampled_from([1, 3]))
def test_drawn_cells_equal_numpy_and_differences(made, H):
    if made.matrices:
        check(made, "signal", H)


def test_the_gru_is_what_the_paper_says():
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 18, 5, rng)
    layer = build(GRU(3, recurrent_dropout=RATE), spec)
    U, V, b = (layer.params[name] for name in "UVb")
    Vz, Vr, Vg = np.split(V, 3, axis=1)
    h, mask = np.zeros((18, 3)), mask_of(layer, 18)
    for t in range(5):
        xz, xr, xg = np.split(x[:, t] @ U + b, 3, axis=1)
        z, r = (1 / (1 + np.exp(-(a + (mask * h) @ W))) for a, W in ((xz, Vz), (xr, Vr)))
        h = z * h + (1 - z) * np.tanh(xg + (mask * r * h) @ Vg)
    y = forward(layer, x, training=True, rng=rng_of_run())
    np.testing.assert_allclose(y, h, 1e-9, 1e-12)


def test_the_lstm_is_what_the_paper_says():
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 18, 5, rng)
    layer = build(LSTM(3, recurrent_dropout=RATE), spec)
    h, c, mask = np.zeros((18, 3)), np.zeros((18, 3)), mask_of(layer, 18)
    for t in range(5):
        a = x[:, t] @ layer.params["U"] + layer.params["b"] + (mask * h) @ layer.params["V"]
        f, i, o = 1 / (1 + np.exp(-a[:, :9].reshape(18, 3, 3).transpose(1, 0, 2)))
        c = f * c + i * np.tanh(a[:, 9:])
        h = o * np.tanh(c)
    y = forward(layer, x, training=True, rng=rng_of_run())
    np.testing.assert_allclose(y, h, 1e-9, 1e-12)


@pytest.mark.parametrize("name", OFTEN)
def test_nothing_is_dropped_outside_training(name):
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 5, 6, rng)
    dropped, whole = layer_of(name, 3, spec), layer_of(name, 3, spec, rate=0.0)
    np.testing.assert_allclose(forward(dropped, x), forward(whole, x), 1e-12, 1e-12)


def test_no_dropout_has_the_kernels_of_the_cell():
    for layer in (RNN(2), RNN(2, recurrent_dropout=0.0)):
        assert layer._kernels.source.masks == ()
        assert layer._kernels.source.text == kernels(CELLS["rnn"]).source.text
    assert RNN(2, recurrent_dropout=0.5)._kernels.source.masks == ("mask",)


@pytest.mark.parametrize(("name", "H"), [("gru", 1), ("lstm", 1), ("rnn", 17), ("gru", 17)])
def test_checkpoints_groups_and_teams_leave_bits(name, H):
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 35, 260, rng)
    layer, dy = layer_of(name, H, spec, "float32"), rng.normal(size=(35, 260, H))
    runs = []
    for checkpoint in ("off", 128):
        layer.bptt = Bptt(checkpoint)
        runs.append(forward_backward(layer, x, dy, rng=rng_of_run()))
    plan = layer._plan(3, 260)
    plans = [replace(plan, groups=(slice(0, 1), slice(1, 3)), steps=128, sum_steps=128)]
    if H > LANES and not numba.config.DISABLE_JIT:  # threads meet in compiled code alone
        plans.append(replace(plan, groups=(slice(0, 3),), team=2))
    for other in plans:
        layer._plan = lambda tiles, T, other=other: other
        runs.append(forward_backward(layer, x, dy, rng=rng_of_run()))
    for y, dx, grads in runs[1:]:
        np.testing.assert_array_equal(y, runs[0][0])
        np.testing.assert_array_equal(dx, runs[0][1])
        for key, value in runs[0][2].items():
            np.testing.assert_array_equal(grads[key], value)


def test_a_state_may_have_the_name_of_the_mask():
    @cell
    def odd(x, mask, W, w):
        return w.share * mask + (mask @ W.h) * x.h

    check(odd, "signal", 2)


def sets_of(rng):
    x = rng.normal(size=(48, 40, 2)).astype(np.float32)
    return {"train": (x, (x[:, :, 0].mean(axis=1) > 0).astype(np.int64))}


def fitted(checkpoint="auto", threads=None):
    layers = [GRU(20, return_sequences=True, recurrent_dropout=RATE), LSTM(2), Dense(2, "softmax")]
    model = Sequential(layers).build(Signal(40, 2), seed=1)
    trainer = Trainer(
        Adam(0.01), epochs=2, seed=3, threads=threads, monitor="train/loss", bptt=Bptt(checkpoint)
    )
    trainer.fit(model, sets_of(np.random.default_rng(0)))
    return model.params


def test_a_seed_gives_the_same_weights_whatever_the_threads_and_checkpoints():
    runs = [fitted(), fitted(threads=1), fitted(threads=2, checkpoint=128)]
    for other in runs[1:]:
        for name, group in runs[0].items():
            for key, value in group.items():
                np.testing.assert_array_equal(other[name][key], value)


def test_a_run_that_goes_on_inside_an_epoch_ends_the_same():
    def network():
        return Sequential([GRU(3, recurrent_dropout=RATE), Dense(2, "softmax")])

    class Keep(Callback):
        def on_batch_end(self, progress):
            if (progress.position.epoch, progress.position.batch) == (1, 2):
                self.state = TrainingState.of(progress).pack()

    whole, again, keep = network(), network(), Keep()
    Trainer(Adam(0.05), epochs=2).fit(whole, toy.data(), [keep])
    state = TrainingState.unpack(pickle.loads(pickle.dumps(keep.state)))
    Trainer(Adam(0.05), epochs=2).fit(again, toy.data(), resume=state)
    assert weights_digest(again) == weights_digest(whole)


def test_gradients_of_a_model_are_checked_without_it():
    model = Sequential([GRU(3, recurrent_dropout=RATE), Dense(2)]).build(Signal(6, 2))
    x = np.random.default_rng(0).normal(size=(4, 6, 2))
    assert check_gradients(model, x, [0, 1, 1, 0]).ok
    assert model.layers[0].recurrent_dropout == RATE


def test_a_copy_and_a_record_drop_the_same():
    x, spec = inputs("signal", 5, 6, np.random.default_rng(0))
    layer = layer_of("gru", 3, spec)
    again = Recurrent.recorded({k: v for k, v in layer.config().items() if k != "layer"})
    again.connect(spec)
    again.params = layer.params
    for other in (deepcopy(layer), pickle.loads(pickle.dumps(layer)), again):
        found = forward(other, x, training=True, rng=rng_of_run())
        np.testing.assert_array_equal(found, forward(layer, x, training=True, rng=rng_of_run()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRU(1, recurrent_dropout=1.0), r"recurrent_dropout=1.0 must be from 0 to below 1"),
        (lambda: GRU(1, recurrent_dropout=-0.1), r"recurrent_dropout=-0.1 must be from 0"),
        (
            lambda: Recurrent("min_gru", 1, recurrent_dropout=0.2),
            r"recurrent_dropout=0.2: min_gru has no recurrent matrix",
        ),
    ],
)
def test_wrong_shares_are_told(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_training_needs_a_generator():
    x, spec = inputs("signal", 2, 3, np.random.default_rng(0))
    layer = layer_of("rnn", 1, spec)
    with pytest.raises(ConfigError, match="recurrent_dropout needs rng while training"):
        layer.forward(to_tiles(x), training=True)
