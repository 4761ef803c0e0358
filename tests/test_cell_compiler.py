"""The compiler of cells, on equations that Hypothesis draws."""

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_cells import cells

from nnjit.cells import cell, evaluate, sigmoid, tanh
from nnjit.cells.compiled import kernels
from nnjit.cells.text import equations, from_plain, parse, plain
from nnjit.layers import Recurrent, Signal
from nnjit.training import cellcheck

STEP = 1e-6
drawn = settings(
    deadline=None, derandomize=True, max_examples=60, suppress_health_check=list(HealthCheck)
)


def params_of(made, H, D, rng):
    """Return parameters of a cell."""
    shapes = {"U": (D, len(made.gates) * H), "b": (len(made.gates) * H,)}
    if made.matrices:
        shapes["V"] = (H, len(made.matrices) * H)
    shapes |= dict.fromkeys(made.vectors, (H,))
    return {name: rng.normal(0, 0.5, shape) for name, shape in shapes.items()}


@drawn
@given(cells())
def test_equations_as_text_are_the_same_cell(made):
    text = equations(made)
    again = parse(text, made.starts)
    assert equations(again) == text
    assert (again.gates, again.matrices, again.vectors) == (made.gates, made.matrices, made.vectors)
    assert plain(from_plain(plain(made))) == plain(made)
    rng = np.random.default_rng(0)
    params, x = params_of(made, 3, 2, rng), rng.normal(size=(2, 4, 2))
    before, after = (evaluate.forward(c, x, params)[0] for c in (made, again))
    for state in made.states:
        np.testing.assert_allclose(before[state], after[state], rtol=1e-12, atol=1e-12)


@drawn
@given(cells())
def test_gradients_of_the_graph_equal_central_differences(made):
    check_gradients(made)


def test_gradients_through_two_products_of_one_value():
    text = """
def twice(x, h, W):
    t = x.g0 + h
    return tanh(0.5 * h + 0.3 * (t @ W.m1) + 0.3 * sigmoid(x.g0 + t @ W.m0) + 0.1 * (h @ W.m0))
"""
    check_gradients(parse(text))


def test_gradients_of_a_state_that_is_subtracted_before_a_product():
    text = """
def less(x, h, W):
    return tanh(0.5 * h + 0.3 * sigmoid(x.g0 + (x.g1 - h) @ W.m0) + 0.1 * ((h - h) @ W.m1))
"""
    check_gradients(parse(text))
    assert kernels(parse(text)).source


@pytest.mark.parametrize(
    "total", ["(u + u) @ W.m0", "(u + x.g0) @ W.m0 + (u - h) @ W.m1", "(u + h) @ W.m0 + u @ W.m1"]
)
def test_gradients_of_a_value_in_sums_before_products(total):
    made = parse(f"""
def sums(x, h, c, W):
    t = x.g0 + h
    u = tanh(x.first)
    v = 0.5 * h + 0.3 * t + 0.3 * sigmoid(x.g0 + {total})
    return v / (1 + absolute(v)), tanh(0.5 * c + 0.3 * t)
""")
    check_gradients(made)
    assert kernels(made).source
    if numba.config.DISABLE_JIT:
        compare(made, (1, 3))


def check_gradients(made):
    """Compare the gradients of a cell's equations with central differences."""
    rng = np.random.default_rng(1)
    params, x = params_of(made, 2, 2, rng), rng.normal(size=(2, 3, 2))
    first = {state: rng.normal(0, 0.5, (2, 2)) for state in made.states}
    states, steps = evaluate.forward(made, x, params, first)
    output = made.states[0]
    dy = rng.normal(size=states[output][:, 1:].shape)
    grads = evaluate.backward(made, x, steps, dy, params)

    def loss():
        return (evaluate.forward(made, x, params, first)[0][output][:, 1:] * dy).sum()

    for name, array in {**params, "x": x, **first}.items():
        for flat in rng.choice(array.size, min(3, array.size), replace=False):
            index = np.unravel_index(flat, array.shape)
            before, found = array[index], []
            for step in (STEP, -STEP):
                array[index] = before + step
                found.append(loss())
            array[index] = before
            expected = (found[0] - found[1]) / (2 * STEP)
            assert grads[name][index] == pytest.approx(expected, rel=1e-5, abs=1e-7), name


def compare(made, sizes):
    """Compare the kernels of a cell with its equations in NumPy."""
    for H in sizes:
        layer = Recurrent(made, H, return_sequences=True)
        rng = np.random.default_rng(2)
        layer.build(Signal(5, 3), rng, np.dtype("float64"))
        for name, value in params_of(made, H, 3, rng).items():
            layer.params[name][:] = value
        x, dy = rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 5, H))
        found, expected = cellcheck.run(layer, x, dy), cellcheck.expected(layer, x, dy)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.interpreted
@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="compiling takes long for each")
@settings(drawn, max_examples=100)
@given(cells())
def test_kernels_equal_the_equations(made):
    compare(made, (1, 3))


def test_what_two_products_give_one_value_compiles():
    text = """
def drawn(x, h, W, w):
    t1 = h + h
    t2 = x.g1 + tanh(x.first)
    t3 = sigmoid(x.g0 + t2 @ W.m0)
    t4 = 0.3 * sigmoid(x.g2 + t2 @ W.m1) + 0.3 * sigmoid(x.g0 + (w.v0 * tanh(t3)) @ W.m0)
    return tanh(0.5 * h + 0.3 * t1 + t4 + 0.3 * (x.g2 + t3) + 0.3 * (t1 @ W.m1))
"""
    check_gradients(parse(text))
    assert kernels(parse(text)).source


@cell(vectors={"p": 0.5, "q": (-0.5, 0.5)}, biases={"f": 1.0})
def invented(x, h, c, W, w):
    """Three gates, two states, vectors of weights, a product of what changes within the step."""
    f = sigmoid(x.f + h @ W.f + w.p * c)
    g = tanh(x.g + (f * h) @ W.g) * sigmoid(w.q)
    u = sigmoid(x.u - h @ W.u)
    c = f * c + (1 - f) * g
    return u * tanh(c) + 0.1 * (c @ W.o), c - 0.1 * h


@pytest.mark.slow
def test_an_invented_cell_compiled():
    assert cellcheck.check_cell(invented, quiet=True)


@pytest.mark.slow
def test_a_cell_without_finite_values_is_not_to_be_trusted(capsys):
    text = "def nowhere(x, h):\n    return 1 / (0 * h + 0 * x.z)\n"
    assert not cellcheck.check_cell(parse(text))
    lines = capsys.readouterr().out.splitlines()
    assert "values of one step are not finite" in lines[0]
    assert lines[-1] == "nowhere: not to be trusted"


def test_an_invented_cell_equals_its_equations_in_the_kernels():
    if numba.config.DISABLE_JIT:
        compare(invented, (1, 3))
    source = kernels(invented).source
    assert source.states == ("h", "c")
    compile(source.text, "kernels", "exec")
