"""The cells that nnjit brings, by their names."""

from .definition import Cell
from .functions import sigmoid, tanh
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


CELLS: dict[str, Cell] = {made.name: made for made in (rnn, gru, gru_reset_after, lstm)}
