"""Clips of any length in one batch: what lies behind the end of a clip changes no bit."""

from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cells import cells
from registry import FEATURES, LEVELS, as_signal, build, from_tiles, to_tiles

from nnjit import (
    GRU,
    LSTM,
    Adam,
    Callback,
    Dense,
    Dropout,
    Flatten,
    Ragged,
    Sequential,
    Trainer,
    check_gradients,
)
from nnjit.cells import cell, evaluate, tanh
from nnjit.cells.library import CELLS
from nnjit.errors import ShapeError
from nnjit.layers import Bptt, Codes, Recurrent, Signal
from nnjit.storage.files import weights_digest
from nnjit.training.checkpoint import TrainingState

OFTEN = ("rnn", "gru", "lstm", "slstm", "min_gru", "cornn")  # the others take long to compile
every_cell = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in CELLS],
)
both_inputs = pytest.mark.parametrize("kind", ["signal", "codes"])
drawn = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=18)


def spec_of(kind):
    return Codes(None, LEVELS) if kind == "codes" else Signal(None, FEATURES)


def layer_of(made, H, kind="signal", dtype="float64", **options):
    layer = Recurrent(made, H, **{"return_sequences": True, **options})
    return build(layer, spec_of(kind), dtype)


def clips_of(kind, lengths, T, rng):
    """Return a batch of noise: what lies behind the ends is noise as well."""
    if kind == "codes":
        return rng.integers(0, LEVELS, (len(lengths), T), np.uint8)
    return rng.normal(size=(len(lengths), T, FEATURES))


def scan(layer, x, lengths, first=None, dy=None, dend=None):
    """Return outputs, final states and, with dy, all gradients, batch first, by name."""
    dtype, N = layer.params["U"].dtype, len(x)
    tiles = to_tiles(x if x.dtype == np.uint8 else x.astype(dtype))
    given = {k: to_tiles(v) for k, v in (first or {}).items()}
    steps = None if lengths is None else to_tiles(np.asarray(lengths))
    y, end, cache = layer.scan(tiles, given, training=dy is not None, lengths=steps)
    found = {"y": from_tiles(y, N), **{f"end.{k}": from_tiles(v, N) for k, v in end.items()}}
    if dy is not None:
        above = {k: to_tiles(v.astype(dtype), pad="zeros") for k, v in (dend or {}).items()}
        dx, dfirst, grads = layer.scan_backward(
            to_tiles(dy.astype(dtype), pad="zeros"), above, cache
        )
        found |= {f"d{k}": v for k, v in grads.items()}
        found |= {f"first.{k}": from_tiles(v, N) for k, v in dfirst.items()}
        found |= {} if dx is None else {"dx": from_tiles(dx, N)}
    return found


def gradients_for(layer, lengths, T, rng):
    """Return gradients of outputs, 0 behind the ends, and of final states."""
    N, H = len(lengths), layer.hidden_size
    dy = rng.normal(size=(N, T, H)) if layer.return_sequences else rng.normal(size=(N, H))
    if layer.return_sequences:
        dy[np.arange(T) >= np.array(lengths)[:, None]] = 0
    return dy, {state: rng.normal(size=(N, H)) for state in layer.cell.states}


def check_padding(layer, kind, lengths, more):
    """Padding as long as the longest clip, or ``more``: the same bits, alone and together."""
    rng, N = np.random.default_rng(len(lengths) + more), len(lengths)
    T = max(lengths)
    x = clips_of(kind, lengths, T + more, rng)
    dy, dend = gradients_for(layer, lengths, T + more, rng)
    first = {k: rng.normal(0, 0.3, v.shape) for k, v in dend.items()}
    padded = scan(layer, x, lengths, first, dy, dend)
    tight = scan(layer, x[:, :T], lengths, first, dy[:, :T] if dy.ndim == 3 else dy, dend)
    other = clips_of(kind, lengths, T + more, np.random.default_rng(99))
    inside = (np.arange(T + more) < np.array(lengths)[:, None]).reshape(N, -1, *[1] * (x.ndim - 2))
    noise = scan(layer, np.where(inside, x, other), lengths, first, dy, dend)
    for name, value in tight.items():
        shown = padded[name][:, :T] if name == "dx" or (name == "y" and dy.ndim == 3) else None
        np.testing.assert_array_equal(padded[name] if shown is None else shown, value, name)
    for name, value in padded.items():
        np.testing.assert_array_equal(noise[name], value, name)
    for n, length in enumerate(lengths[:3]):
        one = slice(n, n + 1)
        alone = scan(
            layer,
            x[one, :length],
            None,
            {k: v[one] for k, v in first.items()},
            dy[one, :length] if dy.ndim == 3 else dy[one],
            {k: v[one] for k, v in dend.items()},
        )
        for name, value in alone.items():
            if name in layer.params or name[1:] in layer.params:
                continue  # sums over clips
            shown = padded[name][one]
            if shown.ndim == 3:
                assert name != "dx" or not shown[:, length:].any()
                shown = shown[:, :length]
            np.testing.assert_array_equal(shown, value, name)
        if N == 1:
            for name in layer.params:
                np.testing.assert_array_equal(padded[f"d{name}"], alone[f"d{name}"], name)


@every_cell
@both_inputs
@settings(drawn, max_examples=6)
@given(
    lengths=LENGTHS,
    more=st.sampled_from([0, 1, 7, 150]),
    H=st.sampled_from([1, 2, 17]),
    dtype=st.sampled_from(["float32", "float64"]),
    sequences=st.booleans(),
)
def test_padding_changes_no_bit(name, kind, lengths, more, H, dtype, sequences):
    layer = layer_of(name, H, kind, dtype, return_sequences=sequences)
    check_padding(layer, kind, lengths, more)


@pytest.mark.slow
@settings(drawn, max_examples=15)
@given(made=cells(), lengths=LENGTHS, more=st.integers(0, 9), H=st.sampled_from([1, 3]))
def test_padding_changes_no_bit_of_drawn_cells(made, lengths, more, H):
    check_padding(layer_of(made, H), "signal", lengths, more)
    check_numpy(layer_of(made, H), "signal", lengths)


def check_numpy(layer, kind, lengths):
    """Compare a batch with clip after clip in NumPy."""
    rng, T = np.random.default_rng(1), max(lengths)
    x = clips_of(kind, lengths, T, rng)
    dy, _ = gradients_for(layer, lengths, T, rng)
    found, sums = scan(layer, x, lengths, dy=dy), {}
    for n, length in enumerate(lengths):
        signal = as_signal(x[n : n + 1, :length])
        states, steps = evaluate.forward(layer.cell, signal, layer.params)
        output = states[layer.cell.states[0]][0, 1:]
        np.testing.assert_allclose(found["y"][n, :length], output, 1e-7, 1e-9)
        np.testing.assert_allclose(found["y"][n, length:], 0 * found["y"][n, length:] + output[-1])
        for state, values in states.items():
            np.testing.assert_allclose(found[f"end.{state}"][n], values[0, -1], 1e-7, 1e-9)
        grads = evaluate.backward(layer.cell, signal, steps, dy[n : n + 1, :length], layer.params)
        if kind == "signal":
            np.testing.assert_allclose(found["dx"][n, :length], grads["x"][0], 1e-6, 1e-8)
        for name in layer.params:
            sums[name] = sums.get(name, 0) + grads[name]
    for name, value in sums.items():
        np.testing.assert_allclose(found[f"d{name}"], value, 1e-6, 1e-8, err_msg=name)


@every_cell
@both_inputs
@pytest.mark.parametrize("H", [1, 3])
def test_a_ragged_batch_equals_its_clips_in_numpy(name, kind, H):
    check_numpy(layer_of(name, H, kind), kind, [3, 7, 1, 7, 5])


@pytest.mark.parametrize(("name", "H"), [("gru", 1), ("gru", 17), ("lstm", 17), ("min_lstm", 17)])
def test_cuts_of_time_and_teams_leave_bits(name, H, replan_team):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 300, 35)
    layer = layer_of(name, H, dtype="float32", recurrent_dropout=0.0)
    x = clips_of("signal", lengths, 300, rng)
    dy, dend = gradients_for(layer, lengths, 300, rng)
    runs = []
    for options, team in (((), 1), ((128,), 1), ((128,), 2), (("off",), 2)):
        layer.bptt = Bptt(*options)
        replan_team(layer, team)
        runs.append(scan(layer, x, lengths, dy=dy, dend=dend))
    for other in runs[1:]:
        for key, value in runs[0].items():
            np.testing.assert_array_equal(other[key], value, key)


@pytest.fixture
def replan_team():
    def replan(layer, team):

        made = Recurrent._plan(layer, 3, 300)
        if team > 1 and layer.hidden_size > 16 and not numba.config.DISABLE_JIT:
            made = replace(made, groups=(slice(0, 3),), team=team)
        layer._plan = lambda tiles, T: made

    return replan


@pytest.mark.parametrize("sequences", [True, False])
def test_truncated_gradients_are_those_of_clips_alone(sequences):
    rng, lengths = np.random.default_rng(0), [40, 13, 20, 10]
    layer = layer_of("gru", 3, return_sequences=sequences)
    layer.bptt = Bptt("off", 10)
    x = clips_of("signal", lengths, 40, rng)
    dy, _ = gradients_for(layer, lengths, 40, rng)
    found = scan(layer, x, lengths, dy=dy)
    for n, length in enumerate(lengths):
        alone = scan(
            layer,
            x[n : n + 1, :length],
            None,
            dy=dy[n : n + 1, :length] if sequences else dy[n:][:1],
        )
        np.testing.assert_array_equal(found["dx"][n, :length], alone["dx"][0])


@pytest.mark.parametrize("H", [1, 2])
def test_what_is_no_number_behind_an_end_stays_there(H):
    @cell
    def ratio(x, h, c, W, w):
        q = x.n / x.d
        return tanh(w.v * q + q @ W.q + h @ W.h + c), c / x.d + q

    lengths = [2, 9]
    layer = layer_of(ratio, H)
    layer.params["b"][:] = 0
    x = clips_of("signal", lengths, 9, np.random.default_rng(0))
    x[0, 2:] = 0  # where both gates are 0
    dy, dend = gradients_for(layer, lengths, 9, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        found = scan(layer, x, lengths, dy=dy, dend=dend)
        x[0, 2:] = 1
        expected = scan(layer, x, lengths, dy=dy, dend=dend)
    for name, value in found.items():
        assert np.isfinite(value).all(), name
        np.testing.assert_array_equal(value, expected[name], name)


def test_recurrent_dropout_goes_with_lengths():
    rng, lengths = np.random.default_rng(0), [4, 9]
    layer = layer_of("gru", 3, recurrent_dropout=0.5)
    x = to_tiles(clips_of("signal", lengths, 9, rng))
    runs = []
    for T in (9, 12):
        more = np.concatenate([x, x[:, : T - 9]], axis=1)
        steps = to_tiles(np.array(lengths))
        runs.append(
            layer.scan(more, training=True, rng=np.random.default_rng(1), lengths=steps)[1]["h"]
        )
    np.testing.assert_array_equal(runs[0], runs[1])


KINDS = {
    "signal": lambda n, rng: rng.normal(size=(n, 2)),
    "codes": lambda n, rng: rng.integers(0, 8, n),
}


def network(kind, dtype="float32", **options):
    layers = [GRU(3, return_sequences=True, **options), Dropout(0.5), LSTM(2), Dense(2, "softmax")]
    inputs = Codes(None, 8) if kind == "codes" else Signal(None, 2)
    return Sequential(layers, dtype).build(inputs, seed=1)


@both_inputs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(drawn, max_examples=10)
@given(lengths=LENGTHS)
def test_models_judge_clips_together_as_alone(kind, dtype, lengths):
    rng, model = np.random.default_rng(0), network(kind, dtype)
    clips = [KINDS[kind](n, rng) for n in lengths]
    p = model.predict_proba(clips)
    for n, clip in enumerate(clips):
        np.testing.assert_array_equal(model.predict_proba([clip])[0], p[n])
        np.testing.assert_array_equal(model.stream(clip[None])[0][0], p[n])
    values = np.full((len(clips), 50, *clips[0].shape[1:]), 255, clips[0].dtype)
    for row, clip in zip(values, clips, strict=True):
        row[: len(clip)] = clip
    np.testing.assert_array_equal(model.predict_proba(Ragged.of(clips)), p)
    np.testing.assert_array_equal(model.predict_proba(Ragged.padded(values, lengths)), p)


def test_gradients_of_a_model_of_ragged_clips():
    rng, model = np.random.default_rng(0), network("codes")
    clips = [KINDS["codes"](n, rng) for n in (5, 1, 9, 4)]
    assert check_gradients(model, clips, [0, 1, 1, 0]).ok
    z, caches = model.forward(clips, training=True, rng=np.random.default_rng(2))
    assert list(model.backward(z, caches)) == ["dense", "lstm", "gru"]


def ragged_sets():
    """Return clips whose class is the sign of their mean, of 3 to 60 steps."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    clips = [
        rng.normal(k - 0.5, 0.7, (n, 2))
        for k, n in zip(labels, rng.integers(3, 60, 90), strict=True)
    ]
    return {"train": (clips[:64], labels[:64]), "val": (clips[64:], labels[64:])}


def fitted(callbacks=(), resume=None, **options):
    model = Sequential([GRU(4), Dense(2, "softmax")]).build(Signal(None, 2), seed=0)
    trainer = Trainer(Adam(0.02), epochs=4, drop_last=False, batch_size=10, **options)
    return model, trainer.fit(model, ragged_sets(), callbacks, resume)


def test_ragged_sets_are_trained_on_and_a_run_goes_on_inside_an_epoch():
    class Keep(Callback):
        def on_batch_end(self, progress):
            if (progress.position.epoch, progress.position.batch) == (2, 3):
                self.state = TrainingState.of(progress).pack()

    keep = Keep()
    model, history = fitted([keep], threads=1)
    assert history.last.flat()["val/accuracy"] > 0.9
    again, _ = fitted(resume=TrainingState.unpack(keep.state), threads=2)
    assert weights_digest(again) == weights_digest(model)


def test_batches_are_of_similar_lengths_and_take_every_clip_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1000, 333)
    ragged = Ragged(np.zeros(lengths.sum(), np.uint8), lengths)
    order = ragged.in_batches(rng.permutation(333), 16, rng)
    assert sorted(order) == list(range(333))
    batches = [lengths[order[i : i + 16]] for i in range(0, 320, 16)]
    padding = sum((batch.max() - batch).sum() for batch in batches) / sum(map(sum, batches))
    assert padding < 0.1
    assert [b.max() for b in batches] != sorted(b.max() for b in batches)


def test_a_record_of_a_model_for_any_length():
    model = network("codes")
    again = Sequential.from_config(model.config(), model.params)
    assert again.inputs == Codes(None, 8)
    assert "(N, T, 8) codes" in model.summary()
    clips = [[1, 2, 3], [7]]
    np.testing.assert_array_equal(again.predict_proba(clips), model.predict_proba(clips))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1, 2], []], r"clip 1 is \(0,\), clip 0 is \(2,\): give each"),
        ([], "there is no clip"),
        ([[1, 2], [9]], "the model knows codes 0 to 7, got 1 to 9"),
        ([[1.5], [1, 2]], r"expected integer codes \(N, T\), got float64"),
        ([np.zeros((2, 3), int), [1]], r"clip 1 is \(1,\), clip 0 is \(2, 3\)"),
    ],
)
def test_wrong_clips_are_told(x, message):
    with pytest.raises(ShapeError, match=message):
        network("codes").predict_proba(x)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 0], r"clip 1 has 0 steps: give it 1 to 3"),
        ([4, 1], r"clip 0 has 4 steps"),
        ([1], r"got \(2, 3\) with int64 \(1,\)"),
        ([1.0, 2.0], r"with float64"),
    ],
)
def test_wrong_lengths_are_told(lengths, message):
    with pytest.raises(ShapeError, match=message):
        Ragged.padded(np.zeros((2, 3), int), lengths)


def test_models_and_layers_of_one_length_say_so():
    model = Sequential([GRU(1), Dense(2)]).build(Codes(3, 8))
    with pytest.raises(ShapeError, match="takes clips of one length: build it for any"):
        model.predict_proba(Ragged.of([[1, 2, 3]]))
    with pytest.raises(
        ShapeError, match=r"flatten needs clips of one length, .*last state.*LastStep"
    ):
        Sequential([GRU(1, return_sequences=True), Flatten(), Dense(2)]).build(Codes(None, 8))


def test_a_layer_for_one_length_takes_no_lengths():
    layer = build(Recurrent("gru", 2), Signal(5, FEATURES))
    with pytest.raises(ShapeError, match="recurrent takes clips of one length"):
        layer.scan(np.zeros((1, 5, FEATURES, 16)), lengths=np.full((1, 16), 3))
