"""The cells of the library as their papers write them: loops in PyTorch with autograd, in float64.

Each form reads the paper (or its authors' code) anew: complex numbers where the library has two
real states, exponentials without a stabiliser, fractions for shares. It shares no line with
`nnjit.cells`.
"""

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from nnjit.cells.library import CELLS
from nnjit.layers import Recurrent, Signal
from nnjit.training import cellcheck

N, T, D = 3, 12, 2


class Weights:
    """The parameters of a layer by gate: ``of_input("z", x)`` is W_z x + b_z of the papers."""

    def __init__(self, cell, tensors):
        G, M = len(cell.gates), len(cell.matrices)
        self.U = dict(zip(cell.gates, tensors["U"].chunk(G, 1), strict=True))
        self.b = dict(zip(cell.gates, tensors["b"].chunk(G), strict=True))
        self.V = dict(zip(cell.matrices, tensors["V"].chunk(M, 1), strict=True)) if M else {}
        self.vector = {name: tensors[name] for name in cell.vectors}
        self.H = len(tensors["b"]) // G

    def of_input(self, gate, x):
        return linear(x, self.U[gate].T, self.b[gate])

    def of_state(self, gate, h):
        return linear(h, self.V[gate].T)

    def both(self, gate, x, h):
        return self.of_input(gate, x) + self.of_state(gate, h)


def peephole_lstm(p, xs, h):
    """Input and forget gates see the cell before the step, the output gate that after it."""
    c, peep = h, p.vector
    for x in xs:
        i = torch.sigmoid(p.both("i", x, h) + c * peep["pi"])
        f = torch.sigmoid(p.both("f", x, h) + c * peep["pf"])
        c = c.mul(f).addcmul(i, p.both("g", x, h).tanh())
        h = torch.sigmoid(p.both("o", x, h) + c * peep["po"]).mul(c.tanh())
        yield h


def mgu(p, xs, h):
    for x in xs:
        f = torch.sigmoid(p.both("f", x, h))
        h = torch.lerp(h, p.both("g", x, f * h).tanh(), f)
        yield h


def li_gru(p, xs, h):
    for x in xs:
        z = torch.sigmoid(p.both("z", x, h))
        h = torch.lerp(p.both("g", x, h).clamp(min=0), h, z)
        yield h


def slstm(p, xs, h):
    """Without the stabiliser, which changes no output: it divides c and n by the same."""
    c = n = torch.zeros_like(h)
    for x in xs:
        i, f = p.both("i", x, h).exp(), torch.sigmoid(p.both("f", x, h))
        o, z = torch.sigmoid(p.both("o", x, h)), p.both("g", x, h).tanh()
        c, n = f * c + i * z, f * n + i
        h = o * (c / n)
        yield h


def min_gru(p, xs, h):
    for x in xs:
        h = torch.lerp(h, p.of_input("h", x), torch.sigmoid(p.of_input("z", x)))
        yield h


def min_lstm(p, xs, h):
    """The gates of a step are divided by their sum first."""
    for x in xs:
        gates = torch.stack([torch.sigmoid(p.of_input(gate, x)) for gate in "fi"])
        forget, take = gates / gates.sum(0)
        h = forget * h + take * p.of_input("h", x)
        yield h


def indrnn(p, xs, h):
    """A recurrent matrix with the weights on its diagonal."""
    for x in xs:
        h = torch.relu(p.of_input("h", x) + h @ torch.diag(p.vector["u"]))
        yield h


def lru(p, xs, h):
    """One complex number a unit, with torch's complex derivatives."""
    v = p.vector
    eigenvalue = torch.exp(torch.complex(-v["nu"].exp(), v["theta"].exp()))
    gamma = (1 - eigenvalue.abs() ** 2).sqrt()
    read_out, state = torch.complex(v["c_re"], v["c_im"]), h.to(torch.complex128)
    for x in xs:
        taken = torch.complex(p.of_input("re", x), p.of_input("im", x))
        state = eigenvalue * state + gamma * taken
        yield (read_out * state).real + p.of_input("skip", x)


def cornn(p, xs, y):
    """One matrix for both states, as in the authors' code; its step, gamma and epsilon."""
    z, step, gamma, epsilon = torch.zeros_like(y), 0.05, 2.7, 4.7
    both = torch.cat([p.V["z"], p.V["y"]])
    for x in xs:
        force = torch.tanh(p.of_input("y", x) + torch.cat([z, y], 1) @ both)
        z = z + step * (force - gamma * y - epsilon * z)
        y = y + step * z
        yield y


def unicornn(p, xs, y):
    """The bounded step is 0.5 + 0.5 tanh(c / 2), of at most 0.1; alpha is 1."""
    z, w = torch.zeros_like(y), p.vector["w"]
    step = 0.1 * (0.5 + 0.5 * torch.tanh(p.vector["c"] / 2))
    for x in xs:
        z = z - step * (torch.tanh(w * y + p.of_input("y", x)) + 1.0 * y)
        y = y + step * z
        yield y


FORMS = (
    *(peephole_lstm, mgu, li_gru, slstm, min_gru, min_lstm),
    *(indrnn, lru, cornn, unicornn),
)
TWINS = ("rnn", "gru", "gru_reset_after", "lstm")  # `twins` has them: torch's own


def test_every_cell_has_a_form():
    assert {*TWINS, *(form.__name__ for form in FORMS)} == set(CELLS)


@pytest.mark.parametrize("H", [1, 5])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_outputs_and_gradients_equal_the_paper(form, H):
    cell = CELLS[form.__name__]
    layer = Recurrent(cell, H, return_sequences=True)
    rng = np.random.default_rng(3)
    layer.build(Signal(T, D), rng, np.dtype("float64"))
    for value in layer.params.values():  # first values stay the middle of what is drawn
        value += rng.normal(0, 0.3, value.shape)
    x, dy = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, H))
    found = cellcheck.run(layer, x, dy)

    tensors = {
        name: torch.tensor(value, requires_grad=True)
        for name, value in {**layer.params, "x": x}.items()
    }
    zeros = torch.zeros(N, H, dtype=torch.float64)
    weights = Weights(cell, tensors)
    y = torch.stack(list(form(weights, tensors["x"].unbind(1), zeros)), dim=1)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(found["y"], y.detach().numpy(), rtol=1e-10, atol=1e-12)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(
            found[f"d{name}"], tensor.grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name
        )
