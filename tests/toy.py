"""A data set and networks small enough to train in milliseconds."""

import numpy as np

from nnjit.datasets import Clips, DataSplits, Encoding
from nnjit.layers import Dense, Dropout, Flatten
from nnjit.model import Sequential
from nnjit.training.optimizers import SGD
from nnjit.training.trainer import Trainer

STEPS, LEVELS = 24, 4
ENCODING = Encoding(levels=LEVELS, rate=STEPS, duration=1.0)


def clips(n, n_classes=2, seed=0):
    """Return clips in which symbol k is the most frequent of class k."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    codes = rng.integers(0, LEVELS, (n, STEPS), np.uint8)
    codes = np.where(rng.random(codes.shape) < 0.4, labels[:, None] % LEVELS, codes).astype(
        np.uint8
    )
    names = tuple(f"{k}/{i}.wav" for i, k in enumerate(labels))
    return Clips(codes, labels.astype(np.int64), names, names, np.zeros(n))


def data(n_classes=2, sizes=(50, 20, 20), positive=1):
    """Return a data set of such clips; a size of 0 leaves a set out."""
    sets = [clips(n, n_classes, seed) if n else None for seed, n in enumerate(sizes)]
    names = ("low", "high", "middle")
    classes = names[:n_classes] if n_classes <= 3 else tuple(f"c{k}" for k in range(n_classes))
    return DataSplits(*sets, classes, positive, ENCODING, "toy")


def model(units=2, activation="softmax", rate=0.5):
    """Return a network that is not built yet."""
    return Sequential([Flatten(), Dense(8, "relu"), Dropout(rate), Dense(units, activation)])


def trainer(learning_rate=0.2, **options):
    """Return a trainer with plain SGD, 3 epochs and one thread."""
    return Trainer(SGD(learning_rate), **{"epochs": 3, "threads": 1, **options})


def weights(trained):
    """Return copies of all parameters by name."""
    return {
        f"{layer}.{name}": value.copy()
        for layer, group in trained.params.items()
        for name, value in group.items()
    }


def many(n_classes, **options):
    """Return a data set of many classes, and the history of a model that was trained on it."""
    found = data(n_classes, (4 * n_classes, 2 * n_classes, n_classes))
    return found, trainer(epochs=1, **options).fit(model(n_classes), found)
