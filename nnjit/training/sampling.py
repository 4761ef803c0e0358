"""Which clips a model is trained on, and how much each of them says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, short

Array = NDArray[Any]
ClassWeight = str | Mapping[str | int, float] | None
SAMPLERS = ("shuffle", "balanced")


def order(sampler: str, labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions (N,) of an epoch's clips, from labels (N,).

    ``shuffle`` takes each clip once. ``balanced`` draws as many of each class, give or take one:
    clips of a small class come again when all of it has come, and of a large one some are left out.
    """
    if sampler == "shuffle":
        return rng.permutation(len(labels))
    classes, n = np.unique(labels), len(labels)
    shares = np.full(len(classes), n // len(classes))
    shares[rng.permutation(len(classes))[: n % len(classes)]] += 1
    drawn = []
    for label, share in zip(classes, shares, strict=True):
        rows = np.flatnonzero(labels == label)
        times = -(-share // len(rows))
        drawn.append(np.concatenate([rng.permutation(rows) for _ in range(times)])[:share])
    return rng.permutation(np.concatenate(drawn))


def smoothed(targets: Array, label_smoothing: float) -> Array:
    """Return targets (N, units) of which a share is given to all classes alike."""
    if label_smoothing == 0:
        return targets
    uniform = 1 / max(2, targets.shape[1])
    softer: Array = targets * (1 - label_smoothing) + label_smoothing * uniform
    return softer


def class_weights(
    setting: ClassWeight, labels: Array, n_classes: int, classes: Sequence[str] = ()
) -> Array | None:
    """Return what a clip of each class counts, (n_classes,); None where all count alike.

    Parameters
    ----------
    setting
        "balanced" is N over n_classes times the number of clips of a class, as in scikit-learn;
        else numbers by name or label, and 1 for what is not named.
    labels : (N,)
        Of the training set.

    Raises
    ------
    ConfigError
        Where there is no such class, or a weight is not above 0.
    """
    if setting is None:
        return None
    if isinstance(setting, str):
        counts = np.bincount(labels, minlength=n_classes)
        balanced: Array = len(labels) / (n_classes * np.maximum(counts, 1))
        return balanced
    weights = np.ones(n_classes)
    for key, weight in setting.items():
        if not 0 < weight < np.inf:
            raise ConfigError(f"trainer.class_weight.{short(key)}={weight} must be above 0")
        weights[_label(key, n_classes, classes)] = weight
    return weights


def check(sampler: str, label_smoothing: float, class_weight: ClassWeight) -> None:
    """Raise ConfigError where a setting of the trainer is none."""
    if sampler not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise ConfigError(f"trainer.sampler={sampler} does not exist: choose from {known}")
    if not 0 <= label_smoothing < 1:
        raise ConfigError(
            f"trainer.label_smoothing={label_smoothing} must be from 0 (none) to below 1"
        )
    if isinstance(class_weight, str) and class_weight != "balanced":
        raise ConfigError(
            f"trainer.class_weight={class_weight} does not exist: use balanced, numbers by class "
            "as in {NAME: 2.0}, or null"
        )


def _label(key: str | int, n_classes: int, classes: Sequence[str]) -> int:
    if str(key) in classes:
        return classes.index(str(key))
    if str(key).isdecimal() and int(key) < n_classes:
        return int(key)
    known = ", ".join([*classes, f"labels from 0 to {n_classes - 1}"])
    raise ConfigError(f"trainer.class_weight names '{short(key)}': choose from {known}")
