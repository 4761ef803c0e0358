"""What is under test. A new cell or layer is a function in naive.py and twins.py, and a row here.

The row drives parity with NumPy and torch, gradients, dtypes, checkpoints, threads and edge cases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import naive
import numpy as np
import pytest
import torch
import twins

from nnjit.kernels._lanes import LANES
from nnjit.layers import (
    GRU,
    LSTM,
    RNN,
    AveragePooling1D,
    BatchNormalization,
    Codes,
    Conv1D,
    Dense,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LastStep,
    Layer,
    LayerNormalization,
    MaxPooling1D,
    Signal,
)
from nnjit.layers.gradients import as_array
from nnjit.layers.recurrent import Recurrent


@dataclass(frozen=True)
class Cell:
    name: str
    layer: Callable[..., Recurrent]  # (hidden_size, return_sequences=..., ...)
    naive: Callable[..., np.ndarray]  # (x, **params) -> all states (N, T, H)
    torch: Callable[..., object]  # the same on tensors


CELLS = [
    Cell("rnn", RNN, naive.rnn, twins.rnn),
    Cell("gru", GRU, naive.gru, twins.gru),
    Cell(
        "gru_reset_after",
        partial(GRU, reset_after=True),
        naive.gru_reset_after,
        twins.gru_reset_after,
    ),
    Cell("lstm", LSTM, naive.lstm, twins.lstm),
]


@dataclass(frozen=True)
class StepLayer:
    """A layer over the steps of sequences, which every test of test_step_layers.py takes."""

    name: str
    layer: Callable[[], Layer]
    naive: Callable[..., np.ndarray]  # (x (N, T, D), **params) -> outputs
    torch: Callable[..., object]  # the same on tensors
    any_length: bool = True
    vectors: bool = False  # it takes vectors as well


def _conv(name, filters, size, any_length=True, stride=1, padding="valid", rate=1, activation=None):
    layer = partial(Conv1D, filters, size, stride, padding, rate, activation or "identity")
    options = {"stride": stride, "padding": padding, "rate": rate}
    ours, theirs = options, options
    if activation:
        ours = {**options, "activation": naive.ACTIVATIONS[activation]}
        theirs = {**options, "activation": getattr(torch, activation)}
    return StepLayer(
        name, layer, partial(naive.conv, **ours), partial(twins.conv, **theirs), any_length
    )


def _pooling(size=2, stride=None, padding="valid"):
    """Return the rows of both kinds of pooling."""
    options = size, stride or size, padding
    kinds = [
        ("average", AveragePooling1D, np.mean, twins.average_pooling),
        ("max", MaxPooling1D, np.max, twins.max_pooling),
    ]
    for name, kind, f, theirs in kinds:

        def ours(x, f=f):
            return naive.pooling(x, *options, f)

        def twin(x, theirs=theirs):
            return theirs(x, *options)

        any_length = padding == "valid" or options[1] == 1
        made = partial(kind, size, stride, padding)
        yield StepLayer(f"{name}_pooling_{size}_{stride}_{padding}", made, ours, twin, any_length)


STEP_LAYERS = [
    StepLayer(
        "global_average_pooling",
        GlobalAveragePooling1D,
        naive.global_average_pooling,
        twins.global_average_pooling,
    ),
    StepLayer(
        "global_max_pooling",
        GlobalMaxPooling1D,
        naive.global_max_pooling,
        twins.global_max_pooling,
    ),
    StepLayer("last_step", LastStep, naive.last_step, twins.last_step),
    _conv("conv", 5, 4),
    _conv("conv_of_many", 20, 3, padding="same", activation="tanh"),
    _conv("conv_same_even", 2, 4, padding="same"),
    _conv("conv_causal", 9, 3, padding="causal", activation="relu"),
    _conv("conv_strided", 8, 5, stride=3),
    _conv("conv_strided_causal", 3, 4, stride=2, padding="causal"),
    _conv("conv_strided_same", 3, 4, False, stride=3, padding="same"),
    _conv("conv_gaps", 3, 2, stride=4),
    _conv("conv_dilated", 4, 3, rate=3),
    _conv("conv_dilated_same", 9, 3, padding="same", rate=2),
    _conv("conv_dilated_causal", 3, 2, padding="causal", rate=4, activation="tanh"),
    _conv("conv_one", 3, 1),
    *_pooling(),
    *_pooling(3, 1, "same"),
    *_pooling(4, 3, "same"),
    *_pooling(2, 3),
    StepLayer(
        "dense",
        partial(Dense, 5, "tanh"),
        lambda x, W, b: np.tanh(naive.dense(x, W, b)),
        partial(twins.dense, activation=torch.tanh),
        vectors=True,
    ),
    StepLayer("layer_norm", LayerNormalization, naive.layer_norm, twins.layer_norm, vectors=True),
    StepLayer(
        "layer_norm_bare",
        partial(LayerNormalization, 0.1, center=False, scale=False),
        partial(naive.layer_norm, epsilon=0.1),
        partial(twins.layer_norm, epsilon=0.1),
        vectors=True,
    ),
    StepLayer("batch_norm", BatchNormalization, naive.batch_norm, twins.batch_norm, vectors=True),
    StepLayer(
        "batch_norm_bare",
        partial(BatchNormalization, 0.5, 0.1, center=False, scale=False),
        partial(naive.batch_norm, epsilon=0.1),
        partial(twins.batch_norm, epsilon=0.1),
        vectors=True,
    ),
]

every_step_layer = pytest.mark.parametrize("row", STEP_LAYERS, ids=lambda row: row.name)
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
both_inputs = pytest.mark.parametrize("kind", ["signal", "codes"])
both_outputs = pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
single = pytest.param("float32", marks=pytest.mark.float32)
both_dtypes = pytest.mark.parametrize("dtype", [single, "float64"])

FEATURES, LEVELS = 3, 16


def shapes(*NTH):
    """Run a test for each (N, T, H); uncompiled kernels take long for many steps."""
    marks = [[pytest.mark.compiled] if T > 100 else [] for _, T, _ in NTH]
    shapes = zip(NTH, marks, strict=True)
    return pytest.mark.parametrize(
        "shape", [pytest.param(s, marks=m, id=str(s)) for s, m in shapes]
    )


def inputs(kind, N, T, rng):
    """Return what a user would pass, (N, T) codes or (N, T, FEATURES), and its spec."""
    if kind == "codes":
        return rng.integers(0, LEVELS, (N, T), np.uint8), Codes(T, LEVELS)
    return rng.normal(size=(N, T, FEATURES)), Signal(T, FEATURES)


def as_signal(x):
    """Return ``x`` for the references, which know no codes."""
    return naive.one_hot(x, LEVELS) if x.dtype == np.uint8 else x


def build(layer, spec, dtype="float64", seed=1):
    """Build a layer, with no parameter left at 0 and recurrences that do not explode."""
    rng = np.random.default_rng(seed)
    layer.name = type(layer).__name__.lower()
    layer.build(spec, rng, np.dtype(dtype))
    for name, value in layer.params.items():
        scale = 0.7 / np.sqrt(len(value)) if value.ndim == 2 else 0.3
        value[:] = rng.normal(0, scale, value.shape)
        if name == "moving_variance":
            value[:] = 1 + np.abs(value)
    return layer


def to_tiles(x, pad="first"):
    """(N, ...) to (tiles, ..., LANES); the lanes beyond N hold the first clip, or zeros."""
    missing = -len(x) % LANES
    filler = np.repeat(x[:1] if pad == "first" else 0 * x[:1], missing, axis=0)
    tiles = np.concatenate([x, filler]).reshape(-1, LANES, *x.shape[1:])
    return np.ascontiguousarray(np.moveaxis(tiles, 1, -1))


def from_tiles(y, N):
    """(tiles, ..., LANES) to (N, ...)."""
    return np.moveaxis(y, -1, 1).reshape(-1, *y.shape[1:-1])[:N].copy()


def forward(layer, x, **options):
    """Return the outputs of a layer, batch first."""
    return from_tiles(layer.forward(_cast(layer, x), **_told(layer, x), **options)[0], len(x))


def forward_backward(layer, x, dy, **options):
    """Return outputs, input gradients (None for codes) and parameter gradients, batch first."""
    y, cache = layer.forward(_cast(layer, x), training=True, **_told(layer, x), **options)
    y = from_tiles(y, len(x))
    dx, grads = layer.backward(to_tiles(dy.astype(y.dtype), pad="zeros"), cache)
    grads = {name: as_array(gradient) for name, gradient in grads.items()}
    return y, None if dx is None else from_tiles(dx, len(x)), grads


def _told(layer, x):
    return {"n_clips": len(x)} if "n_clips" in layer.takes else {}


def _cast(layer, x):
    dtypes = {value.dtype for value in layer.params.values()}
    return to_tiles(x if x.dtype == np.uint8 or not dtypes else x.astype(dtypes.pop()))


def central_difference(f, array, index, epsilon=1e-6):
    """Return the derivative of ``f()`` by ``array[index]``, which is put back."""
    before = array[index]
    values = []
    for step in (epsilon, -epsilon):
        array[index] = before + step
        values.append(f())
    array[index] = before
    return (values[0] - values[1]) / (2 * epsilon)


def sample(array, n, rng):
    """Return up to n indices of an array, all of them where there are no more."""
    flat = rng.choice(array.size, min(n, array.size), replace=False)
    return [np.unravel_index(i, array.shape) for i in flat]


def assert_gradient(f, array, gradient, rng, n=8):
    """Compare the gradient of ``f()`` with central differences, at n places of the array."""
    assert gradient.shape == array.shape
    for index in sample(array, n, rng):
        expected = central_difference(f, array, index)
        assert gradient[index] == pytest.approx(expected, rel=1e-6, abs=1e-8), index
