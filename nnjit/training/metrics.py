"""The table of metrics, confidence intervals, and the baseline.

A metric is one row of `METRICS`: tables, the record, views, figures, rankings, the monitor and
searches read it. ``confusion[i, j]`` is the number of clips of class i that are predicted as j.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]  # a number for each class
Counts = tuple[Array, Array, Array, Array]  # tp, fp, fn, tn of each class against the rest
Ratio = tuple[Any, Any]  # numerators, denominators


@final
@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes
    ----------
    name : str
        The name after that of the set: ``val/name``.
    function : callable
        Depends on ``source``. "losses": from the loss of each clip to their mean. "confusion": from
        the confusion matrix to numerator and denominator. "counts": from tp, fp, fn and tn of each
        class against the rest to numerators and denominators. "scores": from whether a clip is of a
        class (N,) and the probability of that class (N,) to the value.
    source : str
        The arguments of the function. A metric of scores is computed once, for the best and the
        final epoch of a run on record, by `of_scores`; the others in every epoch.
    higher_is_better : bool
        False if lower is better.
    bounds : tuple of float or None
        Least and greatest value. None: no common scale on which runs can be compared.
    shown : bool
        Whether tables, figures and views show it; the record has all metrics.
    """

    name: str
    function: Callable[..., Any]
    source: Literal["losses", "confusion", "counts", "scores"] = "counts"
    higher_is_better: bool = True
    bounds: tuple[float, float] | None = (0.0, 1.0)
    shown: bool = False

    def text(self, value: float) -> str:
        """Return a value as text for tables."""
        return f"{value:.4f}" if self.bounds is None else f"{value:.3f}"


def _balanced_accuracy(confusion: NDArray[np.int64]) -> Ratio:
    clips = confusion.sum(axis=1)
    occur = clips > 0
    return (np.diagonal(confusion)[occur] / clips[occur]).sum(), occur.sum()


def _correlation(confusion: NDArray[np.int64]) -> Ratio:
    """Return Matthews' correlation of label and prediction (Gorodkin 2004) as a fraction."""
    n, labels, predictions = (
        values.astype(np.float64)
        for values in (confusion.sum(), confusion.sum(axis=1), confusion.sum(axis=0))
    )
    spread = (n * n - labels @ labels) * (n * n - predictions @ predictions)
    return n * np.trace(confusion) - labels @ predictions, np.sqrt(spread)


def _roc_auc(truth: NDArray[np.bool_], score: NDArray[Any]) -> float:
    from sklearn.metrics import roc_auc_score  # takes a second to import

    return float(roc_auc_score(truth, score))


def _pr_auc(truth: NDArray[np.bool_], score: NDArray[Any]) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, score))


# One row for each metric. Only for the loss lower is better.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", np.mean, "losses", higher_is_better=False, bounds=None, shown=True),
        Metric("accuracy", lambda c: (np.trace(c), c.sum()), "confusion", shown=True),
        Metric("recall", lambda tp, fp, fn, tn: (tp, tp + fn), shown=True),
        Metric("precision", lambda tp, fp, fn, tn: (tp, tp + fp), shown=True),
        Metric("f1", lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn)),
        Metric("specificity", lambda tp, fp, fn, tn: (tn, tn + fp)),
        Metric("npv", lambda tp, fp, fn, tn: (tn, tn + fn)),
        Metric("balanced_accuracy", _balanced_accuracy, "confusion"),
        Metric("mcc", _correlation, "confusion", bounds=(-1.0, 1.0)),
        Metric("roc_auc", _roc_auc, "scores"),
        Metric("pr_auc", _pr_auc, "scores"),
    )
}


def names(*sources: str) -> list[str]:
    """Return the names of the metrics from these sources, of all metrics if none is given."""
    return [name for name, m in METRICS.items() if not sources or m.source in sources]


def shown() -> list[str]:
    """Return the names that tables and curves of a run show, those without bounds last."""
    shown_names = [name for name, metric in METRICS.items() if metric.shown]
    return sorted(shown_names, key=lambda name: METRICS[name].bounds is None)


def compared() -> list[str]:
    """Return the names that tables of several runs show: those with bounds."""
    return [name for name in shown() if METRICS[name].bounds is not None]


def monitored() -> list[str]:
    """Return the names that can be monitored: those that are computed in every epoch."""
    return names("losses", "confusion", "counts")


def higher_is_better(monitor: str) -> bool:
    """Tell whether higher is better for ``set/metric``; true for unknown metrics."""
    metric = METRICS.get(monitor.rpartition("/")[2])
    return metric is None or metric.higher_is_better


def bounds(key: str) -> tuple[float, float] | None:
    """Return the bounds of a value of a run by its name: ``val/accuracy``, ``final/val_f1_low``.

    None if it has no bounds, such as the loss or a time.
    """
    name = key.rpartition("/")[2].removesuffix("_low").removesuffix("_high")
    fits = [m for m in METRICS.values() if f"_{name}".endswith(f"_{m.name}")]
    return max(fits, key=lambda m: len(m.name)).bounds if fits else None


def confusion_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Return the counts, (n_classes, n_classes), rows by label and columns by prediction."""
    cells = np.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def scores(
    confusion: NDArray[np.int64], positive: int = 1, classes: tuple[str, ...] = ()
) -> tuple[dict[str, float], list[str]]:
    """Return the metrics of a confusion matrix, and the names of those that are undefined.

    With two classes, metrics of counts are those of the class ``positive``. With more, they are the
    mean over the classes (macro average), with the value of each class under ``metric/class``. A
    metric whose denominator is 0 is 0, and named in the second result.
    """
    result: dict[str, float] = {}
    undefined: list[str] = []
    n_classes, counts = len(confusion), _one_against_rest(confusion)
    about = [positive] if n_classes == 2 else list(range(n_classes))
    for name in names("confusion"):
        above, below = METRICS[name].function(confusion)
        result[name] = float(above / below) if below else 0.0
        undefined += [] if below else [name]
    for name in names("counts"):
        above, below = METRICS[name].function(*(count[about] for count in counts))
        values = np.divide(above, below, out=np.zeros(len(about)), where=below != 0)
        by_class = [f"{name}/{_class_name(classes, k)}" for k in about]
        missing = [by_class[i] for i in np.flatnonzero(below == 0)]
        undefined += missing if n_classes > 2 else [name] * len(missing)
        result[name] = float(np.mean(values))
        if n_classes > 2:
            result |= dict(zip(by_class, values.tolist(), strict=True))
    return result, undefined


def of_scores(
    labels: NDArray[np.int64], probabilities: NDArray[Any], positive: int = 1
) -> dict[str, float]:
    """Return the metrics of scores that are defined, computed by scikit-learn.

    With two classes they are those of the class ``positive``. With more, they are the mean over the
    classes, each against the rest. A class with no clip in the set, or with all, is left out.

    Parameters
    ----------
    labels : (N,)
    probabilities : (N, classes), or (N, 1), the probability of class 1 of two
    """
    p = of_each_class(probabilities)
    about = [positive] if p.shape[1] == 2 else list(range(p.shape[1]))
    truths = {k: labels == k for k in about}
    result: dict[str, float] = {}
    for name in names("scores"):
        values = [
            METRICS[name].function(truth, p[:, k])
            for k, truth in truths.items()
            if truth.any() and not truth.all()
        ]
        result |= {name: float(np.mean(values))} if values else {}
    return result


def of_each_class(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of each class (N, classes); one unit gives that of class 1."""
    p = probabilities
    return np.hstack([1 - p, p]) if p.shape[1] == 1 else p


def _class_name(classes: tuple[str, ...], k: int) -> str:
    return classes[k] if classes else str(k)


def _one_against_rest(confusion: NDArray[np.int64]) -> Counts:
    tp = np.diagonal(confusion)
    fp, fn = confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp
    return tp, fp, fn, confusion.sum() - tp - fp - fn


def majority_baseline(labels: NDArray[np.int64]) -> float:
    """Return the accuracy of always predicting the most frequent of these labels."""
    return float(np.bincount(labels).max() / len(labels))


def wilson_interval(accuracy: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the confidence interval of an accuracy on n clips (Wilson 1927; z = 1.96: 95 %)."""
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
