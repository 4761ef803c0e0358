"""Models that Hypothesis draws: stacks of layers that fit each other, and stacks of any layers."""

import numpy as np
from hypothesis import strategies as st

from nnjit import GRU, LSTM, RNN, Dense, Dropout, Flatten, Ragged, Sequential
from nnjit.errors import ConfigError, ShapeError
from nnjit.layers import Codes, Recurrent, Signal

widths, switches = st.integers(1, 5), st.booleans()
names = st.sampled_from(["identity", "relu", "leaky_relu", "elu", "sigmoid", "tanh"])
soft = st.builds(lambda t: {"name": "softmax", "temperature": t}, st.floats(0.25, 4))
dense = st.builds(Dense, st.integers(2, 4), names | soft) | st.builds(Dense, st.just(1), names)
dropout = st.builds(Dropout, st.sampled_from([0, 0.25, 0.5]))
flatten = st.builds(Flatten)
recurrent = (
    st.builds(RNN, widths, switches)
    | st.builds(GRU, widths, switches, switches)
    | st.builds(LSTM, widths, switches, forget_bias=st.sampled_from([None, 1.0]))
)
steps = st.none() | st.integers(1, 9)
inputs = st.builds(Codes, steps, st.integers(2, 9)) | st.builds(Signal, steps, widths)
dtypes = st.sampled_from(["float32", "float64"])
any_layers = st.lists(recurrent | dense | dropout | flatten, min_size=1, max_size=4)


def following(layer, kind, fixed):
    """Return what comes out of a layer that is given this kind, None where it cannot take it."""
    if isinstance(layer, Recurrent) and kind in ("codes", "sequence"):
        return "sequence" if layer.return_sequences else "vector"
    if isinstance(layer, Flatten) and kind in ("codes", "sequence") and fixed:
        return "flat codes" if kind == "codes" else "vector"
    if isinstance(layer, Dense) and kind in ("flat codes", "vector"):
        return "vector"
    if isinstance(layer, Dense) and kind == "sequence":
        return kind
    if isinstance(layer, Dropout) and kind in ("sequence", "vector"):
        return kind
    return None


def fits(layers, spec):
    """Tell whether these layers make a model for such inputs."""
    kind = "codes" if isinstance(spec, Codes) else "sequence"
    for layer in layers:
        kind = following(layer, kind, spec.n_steps is not None)
        if kind is None:
            return False
    return isinstance(layers[-1], Dense) and kind == "vector"


@st.composite
def fitting_layers(draw, spec):
    """Draw layers that make a model for such inputs."""
    kind, found = "codes" if isinstance(spec, Codes) else "sequence", []
    for _ in range(draw(st.integers(0, 3))):
        layer = draw(recurrent | dense | dropout | flatten)
        if after := following(layer, kind, spec.n_steps is not None):
            found, kind = [*found, layer], after
    if kind == "sequence" or (kind == "codes" and spec.n_steps is None):
        found.append(draw(st.builds(GRU, widths)))
    elif kind == "codes":
        found.append(Flatten())
    return [*found, draw(dense)]


@st.composite
def built(draw):
    """Draw a model that is built."""
    spec = draw(inputs)
    layers = draw(fitting_layers(spec))
    return Sequential(layers, draw(dtypes)).build(spec, draw(st.integers(0, 99)))


@st.composite
def stacks(draw):
    """Draw layers that fit, or any, and inputs."""
    spec = draw(inputs)
    return draw(fitting_layers(spec) | any_layers), spec


def padded(spec, N, rng):
    """Return N clips for such inputs, and their lengths where they may have different ones."""
    T = spec.n_steps or 7
    if isinstance(spec, Codes):
        x = rng.integers(0, spec.levels, (N, T), np.uint8)
    else:
        x = rng.normal(size=(N, T, spec.n_features))
    return x, None if spec.n_steps else rng.integers(1, T + 1, N)


def clips(spec, N, rng):
    """Return N clips for such inputs, of different lengths where they may have them."""
    x, lengths = padded(spec, N, rng)
    return x if lengths is None else Ragged.padded(x, lengths)


REFUSALS = (ConfigError, ShapeError)
