"""Equations of cells: what is taken, and what is refused in one line that names the line."""

import copy
import functools
import math
import pickle
import re

import numpy as np
import pytest

from nnjit.cells import cell, sigmoid, tanh
from nnjit.cells.named import CELLS, named
from nnjit.cells.text import equations, from_plain, parse, plain
from nnjit.errors import CellError
from nnjit.layers import GRU, Recurrent
from nnjit.layers.recurrent import Recurrent as Base


def branch(x, h, W):
    if x.z > 0:
        return h
    return x.z


def as_a_truth_value(x, h):
    return x.z if h else h


def unknown_function(x, h):
    return np.arctan(x.z)


def of_math(x, h):
    return math.tanh(x.z)


def another_width(x, h):
    return x.z + np.ones(3)


def two_values_for_one_state(x, h):
    return x.z, h


def undefined_name(x, h):
    return squash(x.z)  # noqa: F821


def forgotten_gate(x, h):
    x.q  # noqa: B018
    return x.z * h


def matrix_without_product(x, h, W):
    return h + x.z * W.z


def product_of_two_values(x, h):
    return x.z @ h


def product_of_weights(x, h, W, w):
    return x.z + w.p @ W.z


def part_of_a_value(x, h):
    return x.z[1:]


def all_inputs(x, h):
    return x * h


def nothing(x, h):
    return None


def infinite(x, h):
    return x.z * math.inf


def set_input(x, h):
    x.z = h
    return x.z


def power(x, h):
    return x.z**h


def keyword_alone(x, h, *, W):
    return x.z + h @ W.z


def any_states(x, *states):
    return states


def constant(x, h, k=0.5):
    return k * x.z


def generator(x, h):
    yield x.z


async def awaited(x, h):
    return x.z


REFUSED = [
    (branch, 1, "a branch, comparison or conversion"),
    (as_a_truth_value, 1, "a branch, comparison or conversion"),
    (unknown_function, 1, "np.arctan has no derivative here: use sigmoid"),
    (of_math, 1, "a branch, comparison or conversion"),
    (another_width, 1, r"an array of shape \(3,\) meets a value"),
    (two_values_for_one_state, 0, "it returns 2 values for 1 states: return h"),
    (undefined_name, 1, "NameError: name 'squash'"),
    (forgotten_gate, 1, "nothing that forgotten_gate returns depends on x.q"),
    (matrix_without_product, 1, r"W.z is a matrix: write h @ W.z"),
    (product_of_two_values, 1, "@ takes a matrix"),
    (product_of_weights, 1, "does not change with time"),
    (part_of_a_value, 1, "cannot be taken apart"),
    (all_inputs, 1, "x alone is no value: write x.NAME"),
    (nothing, 0, "None is no value of the cell"),
    (infinite, 1, "a number of the equations is inf"),
    (set_input, 1, "x.z is given and cannot be set"),
    (power, 1, "takes a whole number from 1 to 8"),
    (keyword_alone, 0, "W is none of these"),
    (any_states, 0, "states is none of these"),
    (constant, 0, "k=0.5 is none of these"),
    (generator, 0, "must return its states"),
    (awaited, 0, "must return its states"),
    (lambda x, h: x.z, 0, "a lambda has no name: write the cell with def"),
]


@pytest.mark.parametrize(("function", "line", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_what_cannot_be_compiled_names_its_line(function, line, message):
    at = function.__code__.co_firstlineno + line
    with pytest.raises(CellError, match=rf"^{re.escape(__file__)}:{at}: .*{message}") as error:
        cell(function)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [print, functools.partial(branch, 1), object])
def test_what_is_no_function_is_refused(value):
    with pytest.raises(CellError, match="is no function of equations"):
        Recurrent(value, 3)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\ndef a(x, h):\n    return (x.z\n", 3, "SyntaxError: .* was never closed"),
        ("\nimport nowhere_at_all\n", 2, "ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\n\n\nf()\n", 2, "ZeroDivisionError"),
        ("a = 1\nraise SystemExit(3)\n", 2, "SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_by_its_line(tmp_path, text, line, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(CellError, match=rf"^{path}:{line}: the file cannot be run: {message}"):
        named(f"{path}:a")


def test_a_cell_without_a_file_runs_and_its_line_is_told():
    """As in a notebook or at a prompt, where no source can be read."""
    held = {}
    text = "def good(x, h):\n    return tanh(x.z + h)\n\n\ndef bad(x, h):\n    return x.z or h\n"
    exec(compile(text, "<stdin>", "exec"), {"tanh": tanh}, held)
    assert Recurrent(held["good"], 3).cell.gates == ("z",)
    with pytest.raises(CellError, match=r"^<stdin>:6: a branch"):
        Recurrent(held["bad"], 3)


def test_functions_may_be_nested_and_shadow_names():
    def outer(x, h, W):
        def inner(tanh):
            return sigmoid(tanh) * 0.5

        sigmoid_, W, x = inner(x.z), h @ W.z, x.g
        return sigmoid_ + W * x

    assert cell(outer).gates == ("z", "g")
    assert parse(equations(cell(outer))).matrices == ("z",)


def test_arguments_are_inputs_states_and_weights():
    def without_inputs(h, W):
        return h

    def without_states(x, W):
        return x.z

    for function in (without_inputs, without_states):
        with pytest.raises(CellError, match="a cell takes x, its states, then W and w"):
            cell(function)


def test_numpy_and_numbers_of_numpy_are_taken():
    def equations_(x, h):
        return np.float64(2) * np.tanh(x.z) + np.maximum(h, np.float64(0.5)) ** 2

    assert cell(equations_).gates == ("z",)


def test_variables_keep_their_names_and_order():
    @cell
    def both(x, h, c, W, w):
        g = sigmoid(x.g + (h * c) @ W.g)
        c = g * c + w.p * x.i
        return tanh(c), c

    assert (both.gates, both.matrices, both.vectors) == (("g", "i"), ("g",), ("p",))
    assert equations(both) == (
        "def both(x, h, c, W, w):\n"
        "    g = sigmoid(x.g + (h * c) @ W.g)\n"
        "    c_new = g * c + w.p * x.i\n"
        "    return tanh(c_new), c_new\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "def f(x, h):\n    return __import__('os')",
        "def f(x, h):\n    return open('a')",
        "def f(x, h):\n    return x.z.__class__",
        "def f(x, h):\n    return x.__class__",
        "def f(x, h):\n    import os\n    return x.z",
        "def f(x, h=print()):\n    return x.z",
        "def f(x, h):\n    h = x.z\n    return h",
        "@print\ndef f(x, h):\n    return x.z",
        "def f(x, h):\n    return (lambda: x.z)()",
        "def f(x, h):\n    return [x.z for h in x]",
        "def f(x, h):\n    return x.z if h else h",
        "def f(x, h):\n    return " + "-" * 9000 + "x.z",
        "def f(x, h):\n    return " + "(" * 900 + "x.z" + ")" * 900,
        "x" * 30_000,
        7,
    ],
    ids=lambda v: str(v)[-25:],
)
def test_equations_of_a_record_are_never_run(text):
    with pytest.raises(CellError):
        parse(text)


@pytest.mark.parametrize("record", [{}, None, {"equations": "def f(x, h):\n    return x.z"}, 3])
def test_records_that_hold_no_cell(record):
    with pytest.raises(CellError):
        from_plain(record)


def test_cells_of_files(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from nnjit.cells import cell, tanh\n"
        "@cell\ndef leaky(x, h, W):\n    return 0.5 * h + 0.5 * tanh(x.h + h @ W.h)\n"
        "def plain(x, h):\n    return tanh(x.h + h)\n"
        "def wrong(x, h):\n    return h.T\n"
    )
    assert named(f"{path}:leaky").matrices == ("h",)
    assert Recurrent(f"{path}:plain", 3).cell.gates == ("h",)
    with pytest.raises(CellError, match=rf"{path}:8: a value of a cell has no .T"):
        named(f"{path}:wrong")
    with pytest.raises(CellError, match="has no other: it has leaky"):
        named(f"{path}:other")
    with pytest.raises(CellError, match="__file__ is no function of equations, but a str"):
        named(f"{path}:__file__")
    with pytest.raises(CellError, match="there is no file"):
        named(f"{tmp_path}/none.py:leaky")
    with pytest.raises(CellError, match="did you mean gru"):
        named("gruu")


def test_a_record_names_no_file(tmp_path):
    path = tmp_path / "evil.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(CellError, match="a record holds equations"):
        Recurrent.recorded({"cell": f"{path}:f", "hidden_size": 3})
    assert not (tmp_path / "ran").exists()


def test_the_layers_of_today_are_the_same_class():
    assert Base is Recurrent
    assert isinstance(GRU(3), Recurrent)
    assert "cell" not in GRU(3).config()


def test_a_layer_comes_back_from_its_record():
    @cell(vectors={"p": (0.5, 1.0), "q": 2.0}, biases={"f": 1.0})
    def mine(x, h, W, w):
        f = sigmoid(x.f + h @ W.f)
        return f * h * w.p + (1 - f) * tanh(x.g) * w.q

    from nnjit.layers import Signal

    config = Recurrent(mine, 3).config()
    layer = Recurrent.recorded({k: v for k, v in config.items() if k != "layer"})
    assert layer.config() == config
    layer.name = "mine"
    layer.build(Signal(4, 2), np.random.default_rng(0), np.dtype("float32"))
    assert layer.params["p"].min() >= 0.5
    assert layer.params["p"].max() < 1
    assert (layer.params["q"] == 2).all()
    np.testing.assert_array_equal(layer.params["b"], [1, 1, 1, 0, 0, 0])


def test_cells_travel_to_other_processes_as_equations():
    layer = Recurrent(lstm_with_peephole, 3)
    again = pickle.loads(pickle.dumps(layer))
    assert again.config() == layer.config()
    assert copy.deepcopy(layer).cell is layer.cell
    assert b"__code__" not in pickle.dumps(layer)


@cell
def lstm_with_peephole(x, h, c, W, w):
    f = sigmoid(x.f + h @ W.f + w.p * c)
    c = f * c + (1 - f) * tanh(x.g)
    return tanh(c), c


def kinds(values):
    """Yield the types of all values of lists and dictionaries."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from kinds(value)
    else:
        yield type(values)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_a_record_of_a_cell_holds_plain_values(name):
    """A model file takes no number of NumPy."""
    assert set(kinds(plain(named(name)))) <= {str, float}


def test_numbers_of_numpy_are_written_as_numbers():
    def half(x, h):
        return np.float64(0.1) * h + x.z

    made = cell(half, biases={"z": (np.float64(0), np.float64(0.5))})
    again = from_plain(plain(made))
    assert "0.1 * h" in equations(made)
    assert again.starts == {"b.z": (0.0, 0.5)}
