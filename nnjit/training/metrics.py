"""Metrics from a confusion matrix, with their uncertainty and the guess that they must beat.

``confusion[i, j]`` is the number of clips of class i that were taken for class j.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]  # a number for each class
Counts = tuple[Array, Array, Array, Array]  # tp, fp, fn, tn of each class against the rest
Ratio = tuple[Array, Array]  # numerators, denominators

# One row for each metric. A new one appears in tables, stores and figures by itself.
METRICS: dict[str, Callable[[Array, Array, Array, Array], Ratio]] = {
    "recall": lambda tp, fp, fn, tn: (tp, tp + fn),
    "precision": lambda tp, fp, fn, tn: (tp, tp + fp),
    "f1": lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn),
    "specificity": lambda tp, fp, fn, tn: (tn, tn + fp),
    "npv": lambda tp, fp, fn, tn: (tn, tn + fn),
}


def confusion_matrix(
    labels: NDArray[np.int64], decisions: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Return the counts, (n_classes, n_classes), rows by label and columns by decision."""
    cells = np.bincount(labels * n_classes + decisions, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def scores(
    confusion: NDArray[np.int64], positive: int = 1, classes: tuple[str, ...] = ()
) -> tuple[dict[str, float], list[str]]:
    """Return every metric, each from 0 to 1, and the names of those that are undefined.

    Two classes: about the class ``positive``. More: the mean over the classes (macro average), and
    for each class its own under ``metric/class``. A metric whose denominator is 0 is 0 and named in
    the second result.
    """
    n_classes, total = len(confusion), confusion.sum()
    found = {"accuracy": float(np.trace(confusion) / total) if total else 0.0}
    undefined = [] if total else ["accuracy"]
    about = [positive] if n_classes == 2 else list(range(n_classes))
    counts = _one_against_rest(confusion)
    for name, ratio in METRICS.items():
        above, below = ratio(*(count[about] for count in counts))
        values = np.divide(above, below, out=np.zeros(len(about)), where=below != 0)
        names = [f"{name}/{_class_name(classes, k)}" for k in about]
        missing = [names[i] for i in np.flatnonzero(below == 0)]
        undefined += missing if n_classes > 2 else [name] * len(missing)
        found[name] = float(np.mean(values))
        if n_classes > 2:
            found |= dict(zip(names, values.tolist(), strict=True))
    return found, undefined


def _class_name(classes: tuple[str, ...], k: int) -> str:
    return classes[k] if classes else str(k)


def _one_against_rest(confusion: NDArray[np.int64]) -> Counts:
    tp = np.diagonal(confusion)
    fp, fn = confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp
    return tp, fp, fn, confusion.sum() - tp - fp - fn


def majority_baseline(labels: NDArray[np.int64]) -> float:
    """Return the accuracy of always answering the largest class of these labels."""
    return float(np.bincount(labels).max() / len(labels))


def wilson_interval(accuracy: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the confidence interval of a share of n (Wilson 1927; z = 1.96 is 95 %)."""
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
