"""Plans that Hypothesis draws: what they cut, and that bits and gradients do not depend on it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import CELLS, build, forward_backward, from_tiles, inputs, to_tiles

from nnjit.kernels._lanes import LANES
from nnjit.kernels.product import GRAIN
from nnjit.layers import Bptt
from nnjit.layers.gradients import as_array
from nnjit.layers.plan import Size, execution_plan, spans
from nnjit.runtime import threads

drawn = settings(deadline=None, max_examples=80, derandomize=True)
checkpoints = st.sampled_from(["auto", "off"]) | st.integers(1, 400)
reaches = st.none() | st.integers(1, 400)
sizes = st.builds(
    lambda H, gates, matrices, D, size: Size(H, gates, matrices, D, (gates + 2) * H * LANES * size),
    st.integers(1, 1500),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(0, 600),
    st.sampled_from([4, 8]),
)


@drawn
@given(sizes, st.integers(1, 40), st.integers(1, 3000), checkpoints, reaches, st.integers(1, 16))
def test_a_plan_takes_every_tile_and_every_step_once(size, tiles, T, checkpoint, reach, n_threads):
    plan = execution_plan(size, tiles, T, checkpoint, reach, n_threads)
    of_groups = [i for group in plan.groups for i in range(group.start, group.stop)]
    assert of_groups == list(range(tiles))
    assert len(plan.groups) * plan.team <= n_threads
    assert 1 in (len(plan.groups), plan.team)
    assert plan.segments[0][0] == 0
    assert plan.segments[-1][1] == T
    assert all(before[1] == after[0] for before, after in pairwise(plan.segments))
    assert all(begin < end for begin, end in plan.segments)
    starts = {begin for begin, _ in plan.segments}
    assert starts.issuperset(range(0, T, reach or T))  # where the gradient is cut
    assert all(begin % (reach or T) % GRAIN == 0 for begin in starts)
    if isinstance(checkpoint, int):
        assert plan.longest <= max(GRAIN, checkpoint + GRAIN // 2)
    if checkpoint != "auto":
        assert plan.keep == (checkpoint == "off")
    assert plan.steps >= 1
    assert plan.sum_tiles >= 1
    assert plan.sum_steps % GRAIN == 0


@drawn
@given(st.integers(0, 500), st.integers(1, 600))
def test_spans_cover_a_range_once(n, most):
    found = spans(n, most)
    assert [i for begin, end in found for i in range(begin, end)] == list(range(n))
    assert all(0 < end - begin <= most for begin, end in found)


@st.composite
def layers(draw, longest):
    """Draw a layer with inputs for it and gradients of its outputs."""
    cell, H = draw(st.sampled_from(CELLS)), draw(st.sampled_from([1, 3, 17]))
    N, T = draw(st.integers(1, 35)), draw(st.integers(1, longest))
    rng = np.random.default_rng(N)
    x, spec = inputs(draw(st.sampled_from(["signal", "codes"])), N, T, rng)
    sequences = draw(st.booleans())
    layer = build(cell.layer(H, return_sequences=sequences), spec, "float32")
    return layer, x, rng.normal(size=(N, T, H) if sequences else (N, H))


@pytest.mark.compiled
@settings(drawn, max_examples=25)
@given(layers(400), st.lists(checkpoints, min_size=1, max_size=2), reaches, st.integers(1, 3))
def test_cuts_and_threads_leave_the_bits(made, checkpoints, reach, n_threads):
    layer, x, dy = made
    layer.bptt = Bptt("off", reach)
    y, dx, grads = forward_backward(layer, x, dy)
    try:
        threads.set_threads(n_threads)
        for checkpoint in checkpoints:
            layer.bptt = Bptt(checkpoint, reach)
            other_y, other_dx, other_grads = forward_backward(layer, x, dy)
            np.testing.assert_array_equal(other_y, y)
            assert (other_dx is None) == (dx is None)
            if dx is not None:
                np.testing.assert_array_equal(other_dx, dx)
            for name, gradient in grads.items():
                np.testing.assert_array_equal(other_grads[name], gradient, err_msg=name)
    finally:
        threads.set_threads()


@settings(drawn, max_examples=25)
@given(st.sampled_from(CELLS), st.sampled_from([1, 3]), st.integers(1, 60), st.integers(1, 70))
def test_a_truncated_gradient_is_that_of_the_stretches_alone(cell, H, T, reach):
    rng = np.random.default_rng(T)
    x, spec = inputs("signal", 5, T, rng)
    layer = build(cell.layer(H, return_sequences=True), spec)
    dy = rng.normal(size=(5, T, H))
    layer.bptt = Bptt(truncate=reach)
    y, dx, grads = forward_backward(layer, x, dy)
    layer.bptt, state, sums = Bptt(), {}, dict.fromkeys(grads, 0.0)
    for begin in range(0, T, reach):
        stretch = slice(begin, min(begin + reach, T))
        out, state, cache = layer.scan(to_tiles(x[:, stretch]), state, training=True)
        np.testing.assert_array_equal(from_tiles(out, 5), y[:, stretch])
        above = to_tiles(dy[:, stretch], pad="zeros")
        dx_alone, _, alone = layer.scan_backward(above, {}, cache)
        np.testing.assert_array_equal(from_tiles(dx_alone, 5), dx[:, stretch])
        sums = {name: total + as_array(alone[name]) for name, total in sums.items()}
    for name, gradient in grads.items():
        np.testing.assert_allclose(sums[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
