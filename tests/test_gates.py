"""Activations of gates that are chosen, and the first bias of the forget gate."""

import numpy as np
import pytest
from registry import FEATURES, build, central_difference, forward, forward_backward, inputs, sample

from nnjit import GRU, LSTM, RNN, Codes, Dense, Recurrent, Sequential
from nnjit.cells import cell, evaluate, sigmoid, tanh
from nnjit.cells.functions import FUNCTIONS
from nnjit.cells.gates import ACTIVATIONS, activations, named_gates, with_activations
from nnjit.cells.library import CELLS
from nnjit.cells.text import equations, plain
from nnjit.errors import CellError

# Between them, every activation, in cells with one state and with two, a product or a gate in it.
CHOICES = [
    ("rnn", {"candidate": "relu"}),
    ("gru", {"update": "hard_sigmoid", "reset": "softplus", "candidate": "softsign"}),
    ("gru_reset_after", {"update": "sigmoid", "reset": "identity", "candidate": "elu"}),
    ("lstm", {"forget": "hard_sigmoid", "output": "softsign", "candidate": "identity"}),
    ("peephole_lstm", {"input": "hard_tanh", "output": "leaky_relu"}),
]
every_choice = pytest.mark.parametrize(("name", "chosen"), CHOICES)


def plain_function(name):
    return (lambda v: v) if name == "identity" else FUNCTIONS[name].numpy


def test_every_activation_is_tried():
    assert {op for _, chosen in CHOICES for op in chosen.values()} | {"tanh"} == set(ACTIVATIONS)


@every_choice
@pytest.mark.parametrize("H", [1, 3])
def test_chosen_activations_equal_numpy_and_differences(name, chosen, H):
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 5, 6, rng)
    layer = build(Recurrent(name, H, return_sequences=True, activations=chosen), spec)
    dy = rng.normal(size=(5, 6, H))
    y, dx, grads = forward_backward(layer, x, dy)
    states, _ = evaluate.forward(layer.cell, x, layer.params)
    np.testing.assert_allclose(y, states[layer.cell.states[0]][:, 1:], 1e-9, 1e-9)
    for array, gradient in [(x, dx), *((layer.params[k], v) for k, v in grads.items())]:
        for index in sample(array, 4, rng):
            expected = central_difference(lambda: (forward(layer, x) * dy).sum(), array, index)
            assert gradient[index] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_gru_with_chosen_activations_is_what_they_say():
    chosen = {"update": "hard_sigmoid", "reset": "softplus", "candidate": "softsign"}
    rng = np.random.default_rng(0)
    x, spec = inputs("signal", 3, 5, rng)
    layer = build(GRU(2, activations=chosen), spec)
    U, V, b = (layer.params[name] for name in "UVb")
    h = np.zeros((3, 2))
    for t in range(5):
        xz, xr, xg = np.split(x[:, t] @ U + b, 3, axis=1)
        Vz, Vr, Vg = np.split(V, 3, axis=1)
        z = np.clip((xz + h @ Vz) / 6 + 0.5, 0, 1)
        r = np.log1p(np.exp(xr + h @ Vr))
        a = xg + (r * h) @ Vg
        h = z * h + (1 - z) * a / (1 + np.abs(a))
    np.testing.assert_allclose(forward(layer, x), h, 1e-9, 1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_what_the_equations_say_changes_nothing(name):
    made = CELLS[name]
    own = {gate: node.op for gate, node in activations(made).items()}
    for chosen in ({}, own, dict.fromkeys(["candidate", "nothing"])):
        assert with_activations(made, chosen) is made


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_every_activation_of_every_cell_can_be_chosen(name, op):
    made = CELLS[name]
    held = activations(made)
    for gate in held:
        other = with_activations(made, {gate: op})
        assert (other.gates, other.matrices, other.starts) == (
            made.gates,
            made.matrices,
            made.starts,
        )
        if op not in ("identity", held[gate].op):
            assert activations(other)[gate].op == op


def test_gates_have_the_names_of_the_field():
    assert named_gates(CELLS["gru"]) == {"update": "z", "reset": "r", "candidate": "g"}
    assert list(named_gates(CELLS["lstm"])) == ["forget", "input", "output", "candidate"]

    @cell
    def both(x, h, W):
        update = sigmoid(x.update + x.z)
        return update * h + (1 - update) * tanh(x.g + x.h + h @ W.h)

    assert named_gates(both) == {"update": "update", "z": "z", "candidate": "g", "h": "h"}
    assert "relu(x.update + x.z)" in equations(with_activations(both, {"update": "relu"}))


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        (
            "gru",
            {"candidat": "relu"},
            r"activations.candidat=relu: .* update, reset, candidate; .*",
        ),
        ("gru", {"candidate": "rel"}, r"activations.candidate=rel: .* identity, relu, .*softplus"),
        ("rnn", {"update": "relu"}, r"activations.update=relu: the gates of rnn .* candidate;"),
        ("slstm", {"forget": "relu"}, r"activations.forget=relu: .* candidate, output;"),
        (
            "lru",
            {"re": "relu"},
            "activations.re=relu: no gate of lru has an activation that can be",
        ),
    ],
)
def test_what_cannot_be_chosen_is_told(name, chosen, message):
    with pytest.raises(CellError, match=message):
        Recurrent(name, 1, activations=chosen)


def test_the_forget_bias_starts_as_it_is_told():
    layers = [LSTM(2, forget_bias=1.5), Recurrent("min_lstm", 2, forget_bias=-2)]
    layers.append(Recurrent("slstm", 2, forget_bias=3.0))  # else 1
    for layer in layers:
        layer.build(Codes(5, 4), np.random.default_rng(0), np.dtype("float32"))
        first = layer.cell.gates.index("f") * 2
        expected = np.zeros_like(layer.params["b"])
        expected[first : first + 2] = layer.forget_bias
        np.testing.assert_array_equal(layer.params["b"], expected)


def test_the_forget_bias_leaves_the_other_first_values():
    drawn = []
    for bias in (None, 1.0):
        layer = LSTM(3, bias_initializer="normal", forget_bias=bias)
        layer.build(Codes(5, 4), np.random.default_rng(0), np.dtype("float32"))
        drawn.append(layer.params)
    for name in ("U", "V"):
        np.testing.assert_array_equal(drawn[0][name], drawn[1][name])
    assert (drawn[1]["b"][:3] == 1).all()
    assert (drawn[0]["b"][:3] != 1).all()


def test_a_cell_without_a_forget_gate_has_no_forget_bias():
    with pytest.raises(CellError, match="forget_bias=1: gru has no forget gate"):
        Recurrent("gru", 1, forget_bias=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RNN(2, activations={"candidate": "relu"}),
        lambda: GRU(2, activations={"update": "hard_sigmoid"}),
        lambda: LSTM(2, activations={"output": "softsign"}, forget_bias=1.0),
        lambda: Recurrent("mgu", 2, activations={"f": "hard_sigmoid"}, forget_bias=1.0),
    ],
)
def test_a_record_gives_the_same_layer(make):
    model = Sequential([make(), Dense(2)]).build(Codes(9, 4), seed=1)
    config = model.config()
    again = Sequential.from_config(config, model.params)
    assert again.config() == config
    assert equations(again.layers[0].cell) == equations(model.layers[0].cell)
    codes = np.random.default_rng(0).integers(0, 4, (3, 9))
    np.testing.assert_array_equal(again.predict_proba(codes), model.predict_proba(codes))
    own = config["layers"][0].get("cell")
    assert own in (None, plain(CELLS["mgu"]))  # the activations stand beside it by name


def test_the_default_weights_are_those_of_the_equations():
    for made in (LSTM(2), LSTM(2, activations={"forget": "sigmoid", "candidate": "tanh"})):
        made.build(Codes(5, FEATURES), np.random.default_rng(0), np.dtype("float32"))
        assert made.cell is CELLS["lstm"]
        assert not made.params["b"].any()
