"""States that are given to a recurrent layer and returned by it, for every cell."""

from dataclasses import replace
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import both_inputs, build, from_tiles, inputs, sample, to_tiles

from nnjit import GRU, LSTM, Dense, Dropout, Flatten, Sequential
from nnjit.cells import evaluate
from nnjit.cells.library import CELLS
from nnjit.errors import ShapeError
from nnjit.kernels._lanes import LANES
from nnjit.layers import Bptt, Codes, Recurrent, Signal

OFTEN = ("rnn", "gru", "lstm", "slstm", "min_gru", "cornn")  # the others take long to compile
every_cell = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in CELLS]
)
CUTS = st.lists(st.integers(1, 39), min_size=1, max_size=3, unique=True).map(sorted)


def layer_of(name, H, spec, dtype="float64", **options):
    options = {"return_sequences": True, **options}
    layer = build(Recurrent(name, H, **options), spec, dtype)
    for vector, start in layer.cell.starts.items():
        if vector in layer.params and isinstance(start, tuple):
            layer.params[vector][:] = np.linspace(*start, H)
    return layer


def states_of(layer, N, rng):
    """Return a state like those that the cell has after some steps, and its tiles."""
    x = rng.normal(size=(N, 5, layer.params["U"].shape[0]))
    params = {name: value.astype(np.float64) for name, value in layer.params.items()}
    states = {k: v[:, -1] for k, v in evaluate.forward(layer.cell, x, params)[0].items()}
    return states, {k: to_tiles(v) for k, v in states.items()}


@every_cell
@both_inputs
@settings(deadline=None, max_examples=4, derandomize=True)
@given(cuts=CUTS, H=st.sampled_from([1, 2, 17]), dtype=st.sampled_from(["float32", "float64"]))
def test_pieces_give_the_bits_of_the_whole(name, kind, cuts, H, dtype):
    rng = np.random.default_rng(0)
    x, spec = inputs(kind, 18, 40, rng)
    layer = layer_of(name, H, spec, dtype)
    tiles = to_tiles(x if kind == "codes" else x.astype(dtype))
    _, first = states_of(layer, 18, rng)
    whole, end, _ = layer.scan(tiles, first)
    state, parts = first, []
    for a, b in pairwise([0, *cuts, 40]):
        part, state, _ = layer.scan(np.ascontiguousarray(tiles[:, a:b]), state)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert list(end) == list(layer.cell.states)
    for key, value in end.items():
        np.testing.assert_array_equal(state[key], value)
    np.testing.assert_array_equal(end[layer.cell.states[0]], whole[:, -1])


@every_cell
def test_a_state_of_zeros_is_the_default(name):
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 3, 7, rng)
    layer = layer_of(name, 2, spec)
    zeros = {state: np.zeros((1, 2, LANES)) for state in layer.cell.states}
    np.testing.assert_array_equal(layer.scan(to_tiles(x), zeros)[0], layer.forward(to_tiles(x))[0])


@every_cell
@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize("H", [1, 3])
def test_gradients_of_states_equal_numpy(name, sequences, H):
    """Outputs, final state and all gradients, where the final state has a gradient of its own."""
    rng = np.random.default_rng(1)
    N, T = 5, 6
    x, spec = inputs("signal", N, T, rng)
    layer = layer_of(name, H, spec, return_sequences=sequences)
    states, first = states_of(layer, N, rng)
    y, end, cache = layer.scan(to_tiles(x), first, training=True)
    found, _ = evaluate.forward(layer.cell, x, layer.params, states)
    output = found[layer.cell.states[0]][:, 1:]
    np.testing.assert_allclose(from_tiles(y, N), output if sequences else output[:, -1], 1e-9, 1e-9)
    for key, value in end.items():
        np.testing.assert_allclose(from_tiles(value, N), found[key][:, -1], 1e-9, 1e-9)

    dy = rng.normal(size=from_tiles(y, N).shape)
    dend = {key: rng.normal(size=(N, H)) for key in layer.cell.states}

    def loss():
        y, end, _ = layer.scan(to_tiles(x), {k: to_tiles(v) for k, v in states.items()})
        total = (from_tiles(y, N) * dy).sum()
        return total + sum((from_tiles(end[key], N) * d).sum() for key, d in dend.items())

    dtiles = {key: to_tiles(value, pad="zeros") for key, value in dend.items()}
    dx, dfirst, grads = layer.scan_backward(to_tiles(dy, pad="zeros"), dtiles, cache)
    gradients = {key: (states[key], from_tiles(value, N)) for key, value in dfirst.items()}
    gradients |= {key: (layer.params[key], value) for key, value in grads.items()}
    gradients["x"] = (x, from_tiles(dx, N))
    for key, (array, gradient) in gradients.items():
        for index in sample(array, 3, rng):
            before, values = array[index], []
            for step in (1e-6, -1e-6):
                array[index] = before + step
                values.append(loss())
            array[index] = before
            expected = (values[0] - values[1]) / 2e-6
            assert gradient[index] == pytest.approx(expected, rel=1e-5, abs=1e-6), (key, index)


@pytest.mark.parametrize("name", ["rnn", "lstm", "indrnn", "slstm"])
@pytest.mark.parametrize("H", [1, 17])
def test_checkpoints_and_truncation_leave_the_gradients_of_states(name, H):
    rng = np.random.default_rng(2)
    x, spec = inputs("signal", 20, 300, rng)
    layer = layer_of(name, H, spec, "float32")
    tiles, (_, first) = to_tiles(x.astype("float32")), states_of(layer, 20, rng)
    dy = to_tiles(rng.normal(size=(20, 300, H)).astype("float32"), pad="zeros")
    dend = {k: to_tiles(rng.normal(size=(20, H)), pad="zeros") for k in layer.cell.states}
    runs = []
    for bptt in (Bptt("off"), Bptt(128), Bptt("off", 300), Bptt(128, 300)):
        layer.bptt = bptt
        y, end, cache = layer.scan(tiles, first, training=True)
        y = y.copy()
        dx, dfirst, grads = layer.scan_backward(dy, dend, cache)
        runs.append({"y": y, "dx": dx, **grads, **end, **{f"d{k}": v for k, v in dfirst.items()}})
    for other in runs[1:]:
        assert other.keys() == runs[0].keys()
        for key, value in runs[0].items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="threads meet in compiled code alone")
def test_teams_leave_states():
    rng = np.random.default_rng(3)
    x, spec = inputs("signal", 3, 260, rng)
    layer = layer_of("lstm", 32, spec, "float32")
    tiles, (_, first) = to_tiles(x.astype("float32")), states_of(layer, 3, rng)
    dy = to_tiles(rng.normal(size=(3, 260, 32)).astype("float32"), pad="zeros")
    dend = {k: to_tiles(rng.normal(size=(3, 32)), pad="zeros") for k in layer.cell.states}
    runs = []
    for team, checkpoint in ((1, "off"), (2, "off"), (2, 128)):
        layer.bptt = Bptt(checkpoint)
        plan = replace(Recurrent._plan(layer, 1, 260), groups=(slice(0, 1),), team=team)
        layer._plan = lambda tiles, T, plan=plan: plan
        y, end, cache = layer.scan(tiles, first, training=True)
        y = y.copy()
        dx, dfirst, _ = layer.scan_backward(dy, dend, cache)
        runs.append([y, dx, *end.values(), *dfirst.values()])
    for other in runs[1:]:
        for value, expected in zip(other, runs[0], strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("kind", ["signal", "codes"])
def test_a_stream_in_pieces_ends_like_the_whole(kind):
    rng = np.random.default_rng(4)
    x = rng.integers(0, 16, (19, 90)) if kind == "codes" else rng.normal(size=(19, 90, 3))
    layers = [GRU(3, return_sequences=True), Dropout(0.5), LSTM(2), Dense(2, "softmax")]
    model = Sequential(layers).build(Codes(90, 16) if kind == "codes" else Signal(90, 3))
    whole, end = model.stream(x)
    np.testing.assert_array_equal(whole, model.predict_proba(x))
    state = None
    for a, b in pairwise([0, 1, 40, 90]):
        p, state = model.stream(x[:, a:b], state)
    np.testing.assert_array_equal(p, whole)
    assert {k: list(v) for k, v in state.items()} == {"gru": ["h"], "lstm": ["h", "c"]}
    assert state["lstm"]["c"].shape == (19, 2)
    np.testing.assert_array_equal(state["lstm"]["c"], end["lstm"]["c"])


def test_what_is_no_stream_is_refused():
    whole = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2)]).build(Codes(9, 4))
    codes = np.zeros((3, 9), int)
    with pytest.raises(ShapeError, match=r"flatten needs all steps .* return_sequences=false"):
        whole.stream(codes)
    model = Sequential([GRU(2), Dense(2)]).build(Codes(9, 4))
    for state, message in (
        ({"gru": {"h": np.zeros((2, 2))}}, r"state h of gru is \(2, 2\), it needs \(3, 2\)"),
        ({"gru": {"c": np.zeros((3, 2))}}, r"gru has no state c: choose from h"),
        ({"lstm": {}}, r"lstm is no recurrent layer"),
    ):
        with pytest.raises(ShapeError, match=message):
            model.stream(codes, state)
    with pytest.raises(ShapeError, match=r"expected integer codes \(N, T\), got"):
        model.stream(np.zeros((3, 0), int))


def test_a_state_that_is_not_of_the_layer_is_refused():
    x, spec = inputs("signal", 3, 4, np.random.default_rng(0))
    layer = layer_of("lstm", 2, spec)
    with pytest.raises(ShapeError, match=r"recurrent has no state s: .*choose from h, c"):
        layer.scan(to_tiles(x), {"s": np.zeros((1, 2, LANES))})
    with pytest.raises(ShapeError, match=r"the state c of recurrent is \(3, 2\), it needs \(1, 2"):
        layer.scan(to_tiles(x), {"c": np.zeros((3, 2))})
