"""What is true of every recurrent cell; the cells are in registry.py."""

import naive
import numpy as np
import pytest
import torch
import twins
from registry import (
    as_signal,
    assert_gradient,
    both_dtypes,
    both_inputs,
    both_outputs,
    build,
    every_cell,
    forward,
    forward_backward,
    inputs,
    shapes,
    to_tiles,
)

from nnjit.kernels._lanes import LANES
from nnjit.kernels.product import GRAIN
from nnjit.layers import RNN, Bptt, Codes, Signal
from nnjit.layers import plan as planning
from nnjit.layers.calls import KernelCalls

# (N, T, H): one clip, whole and broken tiles, odd and whole blocks of units, spans and pieces.
SHAPES = [(1, 1, 1), (5, 2, 3), (16, 130, 8), (33, 300, 9), (5, 130, 17), (33, 2, 1)]


# A layer of one unit has kernels of its own.
both_sizes = pytest.mark.parametrize("H", [1, 5])


@pytest.fixture
def replan(monkeypatch):
    """Change what plans are made by, for one test."""

    def change(**constants):
        for name, value in constants.items():
            monkeypatch.setattr(planning, name, value)
        planning.execution_plan.cache_clear()

    yield change
    planning.execution_plan.cache_clear()


def made(cell, kind, N, T, H, rng, dtype="float64", **options):
    """Return a layer and inputs for it."""
    x, spec = inputs(kind, N, T, rng)
    return build(cell.layer(H, **options), spec, dtype), x


def upstream(y, rng):
    """Return a gradient of the outputs."""
    return rng.normal(size=y.shape).astype(y.dtype)


# Parity.


@every_cell
@both_inputs
@both_outputs
@pytest.mark.parametrize(
    ("dtype", "error"),
    [("float64", 1e-12), pytest.param("float32", 1e-5, marks=pytest.mark.float32)],
)
@shapes(*SHAPES)
def test_outputs_equal_numpy(cell, kind, sequences, dtype, error, shape, rng):
    layer, x = made(cell, kind, *shape, rng, dtype, return_sequences=sequences)
    y = forward(layer, x)
    params = {name: value.astype("float64") for name, value in layer.params.items()}
    expected = cell.naive(as_signal(x), **params)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected if sequences else expected[:, -1], rtol=0, atol=error)


@pytest.mark.interpreted
@every_cell
@both_inputs
@both_outputs
@shapes((1, 1, 1), (5, 40, 3), (33, 130, 9), (16, 300, 17))
def test_outputs_and_gradients_equal_torch(cell, kind, sequences, shape, rng):
    layer, x = made(cell, kind, *shape, rng, return_sequences=sequences)
    tensors = twins.leaves({"x": as_signal(x), **layer.params})
    expected = cell.torch(**tensors)
    expected = expected if sequences else expected[:, -1]
    dy = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(dy))

    y, dx, grads = forward_backward(layer, x, dy)
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-12)
    if kind == "signal":
        np.testing.assert_allclose(dx, tensors["x"].grad, rtol=1e-10, atol=1e-10)
    else:
        assert dx is None
    assert grads.keys() == layer.params.keys()
    for name, gradient in grads.items():
        np.testing.assert_allclose(
            gradient, tensors[name].grad, rtol=1e-10, atol=1e-10, err_msg=name
        )


@every_cell
@both_inputs
@both_outputs
@shapes((1, 1, 1), (5, 6, 3), (17, 3, 9), (2, 130, 2))
def test_gradients_equal_central_differences(cell, kind, sequences, shape, rng):
    layer, x = made(cell, kind, *shape, rng, return_sequences=sequences)
    dy = upstream(forward(layer, x), rng)
    _, dx, grads = forward_backward(layer, x, dy)

    def f():
        return (forward(layer, x) * dy).sum()

    for name, gradient in grads.items():
        assert_gradient(f, layer.params[name], gradient, rng)
    if kind == "signal":
        assert_gradient(f, x, dx, rng)


@pytest.mark.interpreted
@every_cell
@pytest.mark.parametrize("levels", [2, 16, 17, 256])
def test_codes_equal_their_one_hot_vectors(cell, levels, rng):
    codes = rng.integers(0, levels, (17, 140), np.uint8)
    codes[0, :2] = 0, levels - 1
    layers = [
        build(cell.layer(6, return_sequences=True), spec)
        for spec in (Codes(140, levels), Signal(140, levels))
    ]
    dy = rng.normal(size=(17, 140, 6))
    one_hot = naive.one_hot(codes, levels)
    (y, _, grads), (same_y, _, same_grads) = (
        forward_backward(layer, x, dy) for layer, x in zip(layers, (codes, one_hot), strict=True)
    )
    np.testing.assert_allclose(y, same_y, rtol=0, atol=1e-13)
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, same_grads[name], rtol=1e-10, atol=1e-11, err_msg=name)


@pytest.mark.compiled
@every_cell
@both_inputs
def test_two_layers_equal_torch(cell, kind, rng):
    below, x = made(cell, kind, 18, 135, 4, rng, return_sequences=True)
    above = build(cell.layer(3), Signal(135, 4), seed=2)
    tensors = [twins.leaves(layer.params) for layer in (below, above)]
    hidden = cell.torch(torch.tensor(as_signal(x)), **tensors[0])
    expected = cell.torch(hidden, **tensors[1])[:, -1]
    dy = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(dy))

    y, dx, grads_above = forward_backward(above, forward(below, x), dy)
    _, _, grads_below = forward_backward(below, x, dx)
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-12)
    for grads, leaves in ((grads_below, tensors[0]), (grads_above, tensors[1])):
        for name, gradient in grads.items():
            np.testing.assert_allclose(gradient, leaves[name].grad, rtol=1e-10, atol=1e-10)


# Bits that must not change.


def assert_same_bits(runs):
    """Each run is (y, dx, grads)."""
    y, dx, grads = runs[0]
    for other_y, other_dx, other_grads in runs[1:]:
        np.testing.assert_array_equal(other_y, y)
        np.testing.assert_array_equal(other_dx, dx)
        for name, gradient in grads.items():
            np.testing.assert_array_equal(other_grads[name], gradient, err_msg=name)


@pytest.mark.compiled
@every_cell
@both_sizes
@both_inputs
@both_outputs
@both_dtypes
def test_checkpoints_leave_the_bits(cell, H, kind, sequences, dtype, rng, replan):
    def run(checkpoint, keep_bytes=planning._KEEP_BYTES):
        replan(_KEEP_BYTES=keep_bytes)
        layer.bptt = Bptt(checkpoint)
        return forward_backward(layer, x, dy)

    layer, x = made(cell, kind, 17, 1000, H, rng, dtype, return_sequences=sequences)
    dy = upstream(forward(layer, x), rng)
    runs = [run(checkpoint) for checkpoint in ("off", "auto", 1, 100, 128, 256, 5000)]
    assert_same_bits([*runs, run("auto", keep_bytes=0)])


@every_cell
@both_sizes
@pytest.mark.parametrize("checkpoint", ["auto", 128])
@pytest.mark.parametrize("reach", [1, 50, 128, 200])
def test_truncation_cuts_the_gradient_and_nothing_else(cell, H, checkpoint, reach, rng):
    """What a state answers for goes back to the start of its stretch, whole, and no further."""
    layer, x = made(cell, "signal", 5, 300, H, rng, return_sequences=True)
    y = forward(layer, x)
    dy = np.zeros_like(y)
    stretch = slice(reach, min(2 * reach, 300))
    dy[:, stretch] = rng.normal(size=dy[:, stretch].shape)

    layer.bptt = Bptt("off")
    _, whole, _ = forward_backward(layer, x, dy)
    layer.bptt = Bptt(checkpoint, truncate=reach)
    same_y, cut, grads = forward_backward(layer, x, dy)
    np.testing.assert_array_equal(same_y, y)
    np.testing.assert_allclose(cut[:, stretch], whole[:, stretch], rtol=1e-12, atol=1e-15)
    assert not cut[:, :reach].any()
    assert np.abs(whole[:, :reach]).max() > 0
    np.testing.assert_allclose(
        layer.params["U"] @ grads["b"], cut.sum(axis=(0, 1)), rtol=1e-9, atol=1e-12
    )


@every_cell
def test_truncation_beyond_the_end_is_none(cell, rng):
    layer, x = made(cell, "codes", 17, 300, 5, rng, return_sequences=True)
    dy, runs = upstream(forward(layer, x), rng), []
    for truncate in (None, 300, 1000):
        layer.bptt = Bptt(truncate=truncate)
        runs.append(forward_backward(layer, x, dy))
    assert_same_bits(runs)


@every_cell
@pytest.mark.parametrize("checkpoint", ["off", 128])
def test_checkpoints_keep_what_they_promise(cell, checkpoint, rng):
    layer, x = made(cell, "signal", 16, 1024, 4, rng)
    layer.bptt = Bptt(checkpoint)
    _, residuals = layer.forward(to_tiles(x), training=True)
    assert bool(residuals.saved) == (checkpoint == "off")
    assert bool(residuals.segment_states) == (checkpoint != "off")
    for states in residuals.segment_states.values():
        assert len(states) == 1024 // 128


@every_cell
@both_sizes
@both_inputs
@both_outputs
@both_dtypes
def test_training_and_inference_give_the_same_bits(cell, H, kind, sequences, dtype, rng):
    layer, x = made(cell, kind, 20, 300, H, rng, dtype, return_sequences=sequences)
    np.testing.assert_array_equal(forward(layer, x, training=True), forward(layer, x))


@every_cell
@both_sizes
@both_inputs
@both_outputs
@both_dtypes
def test_a_batch_equals_its_members(cell, H, kind, sequences, dtype, rng):
    layer, x = made(cell, kind, 19, 20, H, rng, dtype, return_sequences=sequences)
    dy = upstream(forward(layer, x), rng)
    y, dx, grads = forward_backward(layer, x, dy)
    sums = {name: np.zeros(value.shape) for name, value in layer.params.items()}
    for n in range(len(x)):
        one_y, one_dx, one_grads = forward_backward(layer, x[n : n + 1], dy[n : n + 1])
        np.testing.assert_array_equal(one_y[0], y[n])
        if kind == "signal":
            np.testing.assert_array_equal(one_dx[0], dx[n])
        for name, gradient in one_grads.items():
            sums[name] += gradient
    for name, total in sums.items():
        np.testing.assert_allclose(grads[name], total, rtol=0, atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.compiled
@every_cell
@both_sizes
@both_inputs
def test_threads_leave_the_bits(cell, H, kind, rng, set_threads):
    layer, x = made(cell, kind, 50, 200, H, rng, "float32", return_sequences=True)
    dy = upstream(forward(layer, x), rng)
    runs = []
    for n in (1, 2, 3):
        set_threads(n)
        runs.append(forward_backward(layer, x, dy))
    assert_same_bits(runs)


@every_cell
@both_inputs
@pytest.mark.parametrize("checkpoint", ["off", 128])
@shapes((33, 200, 5), (16, 200, 40))
def test_groups_and_teams_leave_the_bits(cell, kind, checkpoint, shape, rng, set_threads, replan):
    replan(_WORTH_A_THREAD=1e-12, _WORTH_A_BARRIER=1e-12)
    layer, x = made(cell, kind, *shape, rng, "float32", return_sequences=True)
    layer.bptt = Bptt(checkpoint)
    dy = upstream(forward(layer, x), rng)
    runs, plans = [], []
    for n in (1, 2, 3, 4):
        set_threads(n)
        plans.append(layer._plan(-(-shape[0] // LANES), shape[1]))
        runs.append(forward_backward(layer, x, dy))
    assert len({str(plan) for plan in plans}) >= 3
    assert_same_bits(runs)


@pytest.mark.compiled
@every_cell
def test_a_member_of_a_team_that_fails_leaves_the_others(
    cell, rng, set_threads, monkeypatch, replan
):
    replan(_WORTH_A_BARRIER=1e-12)
    set_threads(2)
    layer, x = made(cell, "signal", 16, 200, 40, rng, "float32")
    with monkeypatch.context() as broken:
        failing = KernelCalls.forward

        def fail(self, x, piece, lengths, plan, share):
            if share.rank == 1:
                raise MemoryError
            failing(self, x, piece, lengths, plan, share)

        broken.setattr(KernelCalls, "forward", fail)
        with pytest.raises(MemoryError):
            forward(layer, x)
    forward(layer, x)


@pytest.mark.compiled
@every_cell
@both_inputs
@pytest.mark.parametrize(("H", "team"), [(1, 1), (5, 1), (40, 1), (40, 2)])
def test_short_calls_leave_the_bits(cell, kind, H, team, rng, set_threads, replan):
    layer, x = made(
        cell, kind, 33 if team == 1 else 16, 300, H, rng, "float32", return_sequences=True
    )
    dy = upstream(forward(layer, x), rng)
    set_threads(team)
    runs, plans = [], []
    for seconds in (1e9, 4e-4, 5e-5, 1e-12):
        replan(_CALL_SECONDS=seconds, _WORTH_A_BARRIER=1e-12 if team > 1 else 1)
        plans.append(layer._plan(-(-len(x) // LANES), 300))
        runs.append(forward_backward(layer, x, dy))
    assert {plan.team for plan in plans} == {team}
    assert len({min(300, plan.steps) for plan in plans}) >= (2 if H == 1 else 3)
    assert_same_bits(runs)


@pytest.mark.parametrize("checkpoint", ["auto", "off", 1_000_000])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_no_call_of_a_kernel_is_long(kind, checkpoint):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    for H in (1, 8, 64, 512, 2048):
        for n_features in (0, 1, 512):
            size = planning.Size(H, gates, gates, n_features, (gates + 2) * H * LANES * 4)
            second = size.seconds(n_features)
            for tiles, threads in ((1, 1), (1, 4), (16, 1), (16, 4)):
                for T in (1000, 441_000):
                    plan = planning.execution_plan(size, tiles, T, checkpoint, None, threads)
                    most = max(group.stop - group.start for group in plan.groups)
                    steps = min(plan.steps, plan.longest)
                    assert steps * most * second <= max(0.05, most * second)
                    summed = min(plan.sum_steps, plan.longest) * min(plan.sum_tiles, most)
                    assert summed * second <= max(0.05, GRAIN * second)
                    assert plan.sum_steps % GRAIN == 0


@every_cell
@both_sizes
@both_inputs
@pytest.mark.parametrize("checkpoint", ["off", 128])
def test_inputs_and_parameters_stay(cell, H, kind, checkpoint, rng):
    layer, x = made(cell, kind, 16, 200, H, rng, "float32", return_sequences=True)
    layer.bptt = Bptt(checkpoint)
    tiles = to_tiles(x if kind == "codes" else x.astype("float32"))
    before = {name: value.copy() for name, value in layer.params.items()}
    tiles_before = tiles.copy()
    y, cache = layer.forward(tiles, training=True)
    dy = upstream(y, rng)
    y_before, dy_before = y.copy(), dy.copy()
    layer.backward(dy, cache)
    np.testing.assert_array_equal(tiles, tiles_before)
    np.testing.assert_array_equal(dy, dy_before)
    np.testing.assert_array_equal(y, y_before)
    for name, value in before.items():
        np.testing.assert_array_equal(layer.params[name], value, err_msg=name)


# Extreme values.


@every_cell
@both_sizes
@both_dtypes
@pytest.mark.parametrize("clip", [0, 3, 18])
def test_nan_stays_in_its_clip(cell, H, dtype, clip, rng):
    layer, x = made(cell, "signal", 19, 9, H, rng, dtype, return_sequences=True)
    dy = upstream(forward(layer, x), rng)
    clean_y, clean_dx, _ = forward_backward(layer, x, dy)
    x[clip, 4, 1] = np.nan
    y, dx, grads = forward_backward(layer, x, dy)
    others = np.arange(len(x)) != clip
    assert np.isnan(y[clip, 4:]).all()
    np.testing.assert_array_equal(y[clip, :4], clean_y[clip, :4])
    np.testing.assert_array_equal(y[others], clean_y[others])
    np.testing.assert_array_equal(dx[others], clean_dx[others])
    assert np.isnan(grads["U"]).any()


@every_cell
@both_sizes
@both_dtypes
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_inputs_stay_finite(cell, H, dtype, size, rng):
    layer, x = made(cell, "signal", 5, 50, H, rng, dtype, return_sequences=True)
    dy = upstream(forward(layer, x), rng)
    y, dx, grads = forward_backward(layer, size * np.sign(x), dy)
    assert (np.abs(y) <= 1).all()
    assert np.isfinite(dx).all()
    assert all(np.isfinite(gradient).all() for gradient in grads.values())


def tanh(x, dtype):
    """Return tanh as the kernels compute it: an RNN of one step with weight 1."""
    layer = build(RNN(1), Signal(1, 1), dtype)
    layer.params["U"][:], layer.params["V"][:], layer.params["b"][:] = 1, 0, 0
    return forward(layer, np.asarray(x, dtype).reshape(-1, 1, 1))[:, 0]


@pytest.mark.parametrize(
    ("dtype", "error"),
    [pytest.param("float32", 3e-7, marks=pytest.mark.float32), ("float64", 1e-15)],
)
def test_tanh(dtype, error):
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.logspace(-30, 1, 1000)]).astype(dtype)
    y = tanh(x, dtype)
    np.testing.assert_allclose(y, np.tanh(x.astype("float64")), rtol=error, atol=0)
    np.testing.assert_array_equal(tanh(-x, dtype), -y)
    assert (np.abs(y) <= 1).all()


@both_dtypes
def test_tanh_at_the_ends(dtype):
    x = [800, -800, np.inf, -np.inf, 0, np.nan]
    np.testing.assert_array_equal(tanh(x, dtype), [1, -1, 1, -1, 0, np.nan])
