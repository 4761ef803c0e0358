import io
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import toy

from nnjit.reporting import figures
from nnjit.reporting.figures import precision_recall_curve
from nnjit.training.history import Evaluation


def fitted(n_classes=2, sizes=(50, 20, 20), units=None, **options):
    data = toy.data(n_classes, sizes)
    if not sizes[1]:
        options["monitor"] = "train/accuracy"
    model = toy.model(n_classes) if units is None else toy.model(units, "sigmoid")
    return toy.trainer(**options).fit(model, data), data


def drawn(figure):
    """Draw a figure, with every warning an error; return it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=50)
    return figure


CASES = {
    "three sets": {},
    "one epoch": {"epochs": 1},
    "one set": {"sizes": (50, 0, 0)},
    "no validation": {"sizes": (50, 0, 20)},
    "three classes": {"n_classes": 3, "sizes": (51, 21, 21)},
    "one unit": {"units": 1, "loss": "binary_cross_entropy"},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request):
    return fitted(**request.param)


def test_learning_curves(case):
    history, data = case
    figure = drawn(figures.learning_curves(history, data))
    assert [axis.get_title() for axis in figure.axes] == ["accuracy", "recall", "precision", "loss"]
    for axis in figure.axes:
        curves = {line.get_label(): line for line in axis.lines if line.get_label()[0] != "_"}
        assert list(curves) == list(data.sets())
        for name, line in curves.items():
            values = [e.sets[name].values[axis.get_title()] for e in history.epochs]
            np.testing.assert_array_equal(line.get_ydata(), values)


def test_confusion_matrices(case):
    history, data = case
    figure = drawn(figures.confusion_matrices(history.final.sets, data.classes))
    assert len(figure.axes) == len(data.sets())
    for axis, evaluation in zip(figure.axes, history.final.sets.values(), strict=True):
        texts = [int(text.get_text()) for text in axis.texts]
        assert texts == evaluation.confusion.ravel().tolist()


def test_precision_recall(case):
    history, data = case
    (axis,) = drawn(figures.precision_recall(history.final.sets, data)).axes
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert len(labels) == len(data.sets())
    for label, name in zip(labels, data.sets(), strict=True):
        assert label.startswith(name)
    assert data.classes[data.positive] in axis.get_title()


def test_clips(case):
    _, data = case
    figure = drawn(figures.clips(data.train, data))
    assert len(figure.axes) == 3 * len(data.classes)
    for k, row in enumerate(np.reshape(figure.axes, (-1, 3))):
        for axis in row:
            assert data.classes[k] in axis.get_title()
            np.testing.assert_array_equal(axis.lines[0].get_xdata()[1], 1 / toy.STEPS * 1e3)


def test_clips_of_a_class_with_one_clip():
    data = toy.data(sizes=(3, 0, 0))
    figure = drawn(figures.clips(data.train, data))
    assert [axis.axison for axis in figure.axes] == [True, True, False, True, False, False]


def test_no_window_knows_of_a_figure():
    figures.learning_curves(*fitted(epochs=1))
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def naive_curve(score, truth):
    points = []
    for threshold in sorted(set(score.tolist()), reverse=True):
        taken = [t for s, t in zip(score, truth, strict=True) if s >= threshold]
        points.append((sum(taken) / max(1, sum(truth)), sum(taken) / len(taken)))
    return np.array(points).T


@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "no ties"])
def test_precision_recall_curve_equals_a_loop(levels, rng):
    score, truth = rng.integers(0, levels, 80) / levels, rng.random(80) < 0.4
    np.testing.assert_allclose(precision_recall_curve(score, truth), naive_curve(score, truth))


@pytest.mark.parametrize("truth", [[False] * 4, [True] * 4])
def test_precision_recall_curve_of_one_class(truth):
    score = np.array([0.1, 0.4, 0.4, 0.9])
    found = precision_recall_curve(score, np.array(truth))
    np.testing.assert_allclose(found, naive_curve(score, np.array(truth)))


def test_precision_recall_where_the_positive_class_is_missing():
    history, data = fitted(epochs=1, sizes=(50, 1, 0))  # the one validation clip is of class 0
    drawn(figures.precision_recall(history.final.sets, data))
    drawn(figures.confusion_matrices(history.final.sets, data.classes))


def test_a_long_history_of_undefined_values():
    history, data = fitted(epochs=1)
    history.final.sets["val"] = Evaluation(
        dict.fromkeys(history.final.sets["val"].values, 0.0), ["precision"], np.eye(2, dtype=int), 0
    )
    drawn(figures.learning_curves(history, data))


@pytest.mark.parametrize("positive", [0, 1])
def test_precision_recall_of_one_unit_is_about_the_positive_class(positive):
    data = toy.data(positive=positive)
    model = toy.model(1, "sigmoid")
    history = toy.trainer(loss="binary_cross_entropy", epochs=30).fit(model, data)
    (axis,) = drawn(figures.precision_recall(history.final.sets, data)).axes
    precision = axis.get_lines()[0].get_ydata()
    assert history.final.sets["train"].values["accuracy"] > 0.9
    assert precision[:10].min() > 0.9


ODD = ("_lo$w$ [x]", "C♯\nb\x1b[1m", "x" * 300, r"\$a_b^{2}")


@pytest.mark.parametrize("n", [4])
def test_names_of_classes_are_no_formulas_and_keep_to_their_place(n):
    data, history = toy.many(n)
    data = replace(data, classes=ODD)
    matrix = drawn(figures.confusion_matrices(history.final.sets, data.classes))
    labels = [text.get_text() for text in matrix.axes[0].get_yticklabels()]
    assert labels[0].lstrip("\u200b") == r"_lo\$w\$ [x]"
    assert labels[1] == r"C♯ b\x1b[1m"
    assert len(labels[2]) <= 20
    drawn(figures.precision_recall(history.final.sets, replace(data, positive=0)))
    drawn(figures.clips(data.train, data))
    drawn(figures.learning_curves(history, data))


@pytest.mark.parametrize("n", [20, 21, 300])
def test_what_is_drawn_does_not_grow_with_the_square_of_the_classes(n):
    data, history = toy.many(n)
    sets = history.final.sets
    matrix = drawn(figures.confusion_matrices(sets, data.classes))
    assert len(matrix.axes[0].texts) == (400 if n == 20 else 0)
    np.testing.assert_allclose(
        matrix.axes[0].images[0].get_array(),
        sets["train"].confusion / sets["train"].confusion.sum(axis=1, keepdims=True),
    )
    assert len(matrix.axes[0].get_xticklabels()) <= 40
    panels = drawn(figures.clips(data.train, data))
    assert len(panels.axes) == 3 * 5
    assert f"{n - 5} more classes are not shown" in panels.get_supxlabel()


def test_a_hundred_thousand_epochs():
    history, data = fitted(epochs=1)
    for epoch in range(1, 100_000):
        history.epochs.append(replace(history.epochs[0], epoch=epoch))
    figure = drawn(figures.learning_curves(history, data))
    assert all(line.get_marker() == "None" for line in figure.axes[0].lines)
