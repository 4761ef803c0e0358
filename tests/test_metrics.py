import numpy as np
import pytest

from nnjit.reporting.figures import precision_recall_curve
from nnjit.training import metrics
from nnjit.training.metrics import (
    confusion_matrix,
    majority_baseline,
    of_scores,
    scores,
    wilson_interval,
)


def naive_counts(labels, predictions, k):
    """Count tp, fp, fn, tn of class k, clip by clip."""
    tp = fp = fn = tn = 0
    for label, prediction in zip(labels, predictions, strict=True):
        if label == k:
            tp, fn = tp + (prediction == k), fn + (prediction != k)
        else:
            fp, tn = fp + (prediction == k), tn + (prediction != k)
    return tp, fp, fn, tn


def naive_scores(labels, predictions, k):
    tp, fp, fn, tn = naive_counts(labels, predictions, k)
    recall, precision = tp / (tp + fn), tp / (tp + fp)
    return {
        "recall": recall,
        "precision": precision,
        "f1": 2 * recall * precision / (recall + precision),
        "specificity": tn / (tn + fp),
        "npv": tn / (tn + fn),
    }


def drawn(n_classes, rng, n=200):
    labels = rng.integers(0, n_classes, n)
    predictions = np.where(rng.random(n) < 0.6, labels, rng.integers(0, n_classes, n))
    return labels, predictions


def test_confusion_matrix_has_labels_in_rows(rng):
    labels, predictions = drawn(3, rng)
    confusion = confusion_matrix(labels, predictions, 3)
    for i in range(3):
        for j in range(3):
            assert confusion[i, j] == sum((labels == i) & (predictions == j))
    assert confusion_matrix(np.array([0]), np.array([1]), 4).shape == (4, 4)


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_equal_naive_counts(positive, rng):
    labels, predictions = drawn(2, rng)
    found, undefined = scores(confusion_matrix(labels, predictions, 2), positive)
    expected = naive_scores(labels, predictions, positive)
    tp, fp, fn, tn = naive_counts(labels, predictions, positive)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected |= {
        "accuracy": np.mean(labels == predictions),
        "balanced_accuracy": (expected["recall"] + expected["specificity"]) / 2,
        "mcc": (tp * tn - fp * fn) / product**0.5,
    }
    assert found == pytest.approx(expected)
    assert undefined == []


def test_three_classes_are_macro_averages_and_per_class(rng):
    labels, predictions = drawn(3, rng)
    classes = ("a", "b", "c")
    found, undefined = scores(confusion_matrix(labels, predictions, 3), 1, classes)
    each = {name: naive_scores(labels, predictions, k) for k, name in enumerate(classes)}
    for metric in metrics.names("counts"):
        assert found[metric] == pytest.approx(np.mean([each[c][metric] for c in classes]))
        for c in classes:
            assert found[f"{metric}/{c}"] == pytest.approx(each[c][metric])
    assert undefined == []


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_equal_sklearn(n_classes, rng):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, predictions = drawn(n_classes, rng)
    found, _ = scores(confusion_matrix(labels, predictions, n_classes))
    average = "binary" if n_classes == 2 else "macro"
    expected = sklearn.precision_recall_fscore_support(labels, predictions, average=average)[:3]
    assert [found[m] for m in ("precision", "recall", "f1")] == pytest.approx(expected)
    for name, function in (
        ("accuracy", sklearn.accuracy_score),
        ("balanced_accuracy", sklearn.balanced_accuracy_score),
        ("mcc", sklearn.matthews_corrcoef),
    ):
        assert found[name] == pytest.approx(function(labels, predictions))


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[5, 0], [5, 0]], ["mcc", "precision"]),  # 1 is never decided
        ([[5, 5], [0, 0]], ["mcc", "recall"]),  # 1 never occurs
        ([[0, 5], [0, 5]], ["mcc", "npv"]),
        ([[0, 0], [5, 5]], ["mcc", "specificity"]),
        ([[9, 0], [0, 0]], ["mcc", "recall", "precision", "f1"]),
        ([[0, 0], [0, 0]], metrics.names("confusion", "counts")),
    ],
)
def test_zero_denominators_are_0_and_flagged(confusion, expected):
    found, undefined = scores(np.array(confusion))
    assert sorted(undefined) == sorted(expected)
    assert all(found[name] == 0 for name in expected)
    assert np.isfinite(list(found.values())).all()


def test_zero_denominator_of_one_class_of_three_is_flagged_by_name():
    confusion = np.array([[4, 0, 0], [1, 3, 0], [0, 2, 0]])
    found, undefined = scores(confusion, classes=("a", "b", "c"))
    assert undefined == ["precision/c"]
    assert found["precision"] == pytest.approx((4 / 5 + 3 / 5 + 0) / 3)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur():
    found, undefined = scores(np.array([[4, 0, 0], [1, 3, 0], [0, 0, 0]]))
    assert found["balanced_accuracy"] == pytest.approx((4 / 4 + 3 / 4) / 2)
    assert "balanced_accuracy" not in undefined


def naive_roc_auc(truth, score):
    """Return the share of pairs of a clip of the class and another that are in order."""
    pairs = [(a > b) + (a == b) / 2 for a in score[truth] for b in score[~truth]]
    return np.mean(pairs)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("units", [1, 2])
def test_metrics_of_scores_of_two_classes(positive, units, rng):
    labels, score = rng.integers(0, 2, 60), rng.random((60, 1)).round(1)
    p = score if units == 1 else np.hstack([1 - score, score])
    found = of_scores(labels, p, positive)
    truth, of_it = labels == positive, np.hstack([1 - score, score])[:, positive]
    assert found["roc_auc"] == pytest.approx(naive_roc_auc(truth, of_it))
    recall, precision = precision_recall_curve(of_it, truth)
    steps = np.diff(recall, prepend=0.0)
    assert found["pr_auc"] == pytest.approx((steps * precision).sum())


def test_metrics_of_scores_of_three_classes_are_means_of_one_against_the_rest(rng):
    labels, p = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    each = [naive_roc_auc(labels == k, p[:, k]) for k in range(3)]
    assert of_scores(labels, p)["roc_auc"] == pytest.approx(np.mean(each))
    without = labels[labels != 2]
    each = [naive_roc_auc(without == k, p[labels != 2, k]) for k in range(2)]
    assert of_scores(without, p[labels != 2])["roc_auc"] == pytest.approx(np.mean(each))


def test_metrics_of_scores_are_left_out_where_a_set_has_one_class():
    assert of_scores(np.ones(5, np.int64), np.full((5, 2), 0.5)) == {}


@pytest.mark.parametrize(
    ("key", "bounds"),
    [
        ("val/loss", None),
        ("final/val_loss", None),
        ("final/val_accuracy_low", (0, 1)),
        ("baseline/val_accuracy", (0, 1)),
        ("final/test_balanced_accuracy", (0, 1)),
        ("best/val_mcc", (-1, 1)),
        ("best/epoch", None),
        ("seconds/epoch_mean", None),
    ],
)
def test_bounds_of_a_value_by_its_name(key, bounds):
    assert metrics.bounds(key) == bounds


def test_lower_is_better_for_the_loss_alone():
    better_low = [name for name in metrics.METRICS if not metrics.higher_is_better(f"val/{name}")]
    assert better_low == ["loss"]


def test_majority_baseline():
    assert majority_baseline(np.array([1] * 71 + [0] * 100)) == 100 / 171
    assert majority_baseline(np.array([2, 2, 0, 1])) == 0.5


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(right, n, low, high):
    assert wilson_interval(right / n, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(1 - right / n, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)
