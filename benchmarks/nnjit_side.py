"""nnjit's own side."""

from collections.abc import Callable

import numpy as np

import nnjit
from nnjit import layers
from nnjit.kernels._lanes import LANES
from nnjit.layers import Codes, Signal
from nnjit.training import losses

from .task import (
    BATCH,
    DROPOUT,
    LEARNING_RATE,
    LEVELS,
    N_BATCHES,
    N_STEPS,
    UNITS,
    Recipe,
    Step,
    clips,
)

CELLS = {"rnn": layers.RNN, "gru": layers.GRU, "lstm": layers.LSTM}


def version() -> str:
    return nnjit.__version__


def epoch(recipe: Recipe) -> Callable[[], None]:
    stack = [CELLS[recipe.cell](1, return_sequences=True)] if recipe.cell else []
    stack += [layers.Flatten(), layers.Dense(UNITS, "relu"), layers.Dropout(DROPOUT)]
    model = nnjit.Sequential([*stack, layers.Dense(2, "softmax")]).build(Codes(N_STEPS, LEVELS))
    optimizer, loss, rng = nnjit.SGD(LEARNING_RATE), losses.get("mse"), np.random.default_rng(0)
    codes, labels = clips()
    targets = np.eye(2, dtype=np.float32)[labels]

    def run() -> None:
        order = rng.permutation(len(codes))
        for i in range(N_BATCHES):
            rows = order[i * BATCH : (i + 1) * BATCH]
            z, caches = model.forward_rows(codes, rows, training=True, rng=rng)
            _, dz = loss(z, model.activation, targets[rows])
            optimizer.step(model.params, model.backward(dz, caches))

    return run


def step(step: Step) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    layer = CELLS[step.cell](step.hidden_size, return_sequences=True)
    layer.is_first = True  # no side computes the gradient of the inputs
    D, T, H = step.n_features, step.n_steps, step.hidden_size
    layer.build(Codes(T, D) if step.codes else Signal(T, D), rng, np.dtype(np.float32))
    tiles = step.batch // LANES
    if step.codes:
        x = rng.integers(0, D, (tiles, T, LANES)).astype(np.uint8)
    else:
        x = rng.normal(size=(tiles, T, D, LANES)).astype(np.float32)
    dy = rng.normal(size=(tiles, T, H, LANES)).astype(np.float32)

    def infer() -> None:
        layer.forward(x)

    def train() -> None:
        _, cache = layer.forward(x, training=True)
        layer.backward(dy, cache)

    return train if step.training else infer
