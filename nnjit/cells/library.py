"""The cells of nnjit, by name."""

from math import pi

from .definition import Cell
from .functions import cos, exp, log, maximum, relu, sigmoid, sin, softplus, sqrt, tanh
from .trace import cell


@cell
def rnn(x, h, W):
    """Elman network (Elman 1990, Cognitive Science 14, section "Networks with memory")."""
    return tanh(x.h + h @ W.h)


@cell
def gru(x, h, W):
    """Gated recurrent unit, reset before the product (Cho et al. 2014, arXiv:1406.1078, eq. 5-8).

    Keras calls it reset_after=False.
    """
    z = sigmoid(x.z + h @ W.z)
    r = sigmoid(x.r + h @ W.r)
    g = tanh(x.g + (r * h) @ W.g)
    return z * h + (1 - z) * g


@cell
def gru_reset_after(x, h, W, w):
    """Gated recurrent unit, reset after the product: the form of torch, cuDNN and ONNX."""
    z = sigmoid(x.z + h @ W.z)
    r = sigmoid(x.r + h @ W.r)
    g = tanh(x.g + r * (h @ W.g + w.c))
    return z * h + (1 - z) * g


@cell
def lstm(x, h, c, W):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers 2000)."""
    f = sigmoid(x.f + h @ W.f)
    i = sigmoid(x.i + h @ W.i)
    o = sigmoid(x.o + h @ W.o)
    g = tanh(x.g + h @ W.g)
    c = f * c + i * g
    return o * tanh(c), c


@cell
def peephole_lstm(x, h, c, W, w):
    """LSTM with peephole connections (Gers & Schmidhuber 2000, IJCNN, vol. 3, p. 189)."""
    f = sigmoid(x.f + h @ W.f + w.pf * c)
    i = sigmoid(x.i + h @ W.i + w.pi * c)
    g = tanh(x.g + h @ W.g)
    c = f * c + i * g
    o = sigmoid(x.o + h @ W.o + w.po * c)
    return o * tanh(c), c


@cell
def mgu(x, h, W):
    """Minimal gated unit, with one gate (Zhou et al. 2016, arXiv:1603.09420, eq. 7)."""
    f = sigmoid(x.f + h @ W.f)
    g = tanh(x.g + (f * h) @ W.g)
    return (1 - f) * h + f * g


@cell
def li_gru(x, h, W):
    """Light GRU, without batch norm (Ravanelli et al. 2018, arXiv:1803.10225, eq. 4)."""
    z = sigmoid(x.z + h @ W.z)
    return z * h + (1 - z) * relu(x.g + h @ W.g)


@cell(biases={"f": 1.0})
def slstm(x, h, c, n, m, W):
    """LSTM with exponential gates (Beck et al. 2024, arXiv:2405.04517, eq. 8 to 17).

    m is the stabiliser: c and n are scaled by ``exp(-m)``. n stays above 0.
    g is z in the paper.
    """
    log_f = -softplus(-(x.f + h @ W.f))
    log_i = x.i + h @ W.i
    m_new = maximum(log_f + m, log_i)
    f, i = exp(log_f + m - m_new), exp(log_i - m_new)
    c = f * c + i * tanh(x.g + h @ W.g)
    n = f * n + i
    return sigmoid(x.o + h @ W.o) * c / maximum(n, 1e-20), c, n, m_new


@cell
def min_gru(x, h):
    """Minimal GRU: gates depend on the input only (Feng et al. 2024, arXiv:2410.01201, sec. 3.1).

    Units are independent.
    """
    z = sigmoid(x.z)
    return (1 - z) * h + z * x.h


@cell
def min_lstm(x, h):
    """Minimal LSTM, gates normalised to add up to 1 (Feng et al. 2024, arXiv:2410.01201, sec. 3.2).

    Units are independent.
    """
    f, i = sigmoid(x.f), sigmoid(x.i)
    return (f * h + i * x.h) / (f + i)


@cell(vectors={"u": (0.0, 1.0)})
def indrnn(x, h, w):
    """Independently recurrent units (Li et al. 2018, arXiv:1803.04831, eq. 3)."""
    return relu(x.h + w.u * h)


@cell(vectors={"nu": (-6.9, -2.25), "theta": (-4.0, log(pi)), "c_re": 1.0, "c_im": 0.0})
def lru(x, y, re, im, w):
    """Linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349, eq. 7 and section 3.4).

    One complex number a unit, ``exp(-exp(nu) + i exp(theta))``, moduli from 0.9 to 0.999 at the
    start; the normalisation follows the modulus. C is diagonal, D is the gate ``skip``: put a layer
    that mixes units after it.
    """
    modulus = exp(-exp(w.nu))
    a, b = modulus * cos(exp(w.theta)), modulus * sin(exp(w.theta))
    gamma = sqrt(1 - modulus * modulus)
    re_new = a * re - b * im + gamma * x.re
    im_new = a * im + b * re + gamma * x.im
    return w.c_re * re_new - w.c_im * im_new + x.skip, re_new, im_new


@cell
def cornn(x, y, z, W):
    """Coupled oscillators (Rusch & Mishra 2021, arXiv:2010.00951, eq. 3, damping explicit).

    The step is 0.05, the frequency term 2.7 and the damping 4.7, near the paper's for long tasks.
    """
    z = z + 0.05 * (tanh(x.y + y @ W.y + z @ W.z) - 2.7 * y - 4.7 * z)
    return y + 0.05 * z, z


@cell(vectors={"w": (0.0, 1.0), "c": (-0.1, 0.1)})
def unicornn(x, y, z, w):
    """Undamped independent oscillators (Rusch & Mishra 2021, arXiv:2103.05487, eq. 4).

    Each unit has its own step, at most 0.1; alpha is 1. Units are independent.
    """
    step = 0.1 * sigmoid(w.c)
    z = z - step * (tanh(w.w * y + x.y) + y)
    return y + step * z, z


_ALL = (
    *(rnn, gru, gru_reset_after, lstm, peephole_lstm, mgu, li_gru, slstm),
    *(min_gru, min_lstm, indrnn, lru, cornn, unicornn),
)
CELLS: dict[str, Cell] = {entry.name: entry for entry in _ALL}
