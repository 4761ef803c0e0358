"""Figures of a run and of a sweep. Each function returns a figure without a window."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..datasets import Clips, DataSplits
from ..layers import Codes
from ..runtime.text import printable
from ..training import metrics
from ..training.history import Evaluation, History
from ..training.metrics import majority_baseline
from ..training.summary import summary_key
from .variants import MOST, Variant

_ANNOTATED = 20  # up to so many classes, counts are written into the confusion matrix
_NAMED = 40  # up to so many classes, the axes of the matrix have names
_ROWS = 5  # classes of which clips are drawn
_MARKED = 200  # up to so many epochs, each has a dot
_LONGEST, _SHORT = 60, 20  # characters of a name in a title, and at the axes of a matrix
_COLOURS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}


def _plain(text: str, longest: int = _LONGEST) -> str:
    """Return a user's text for matplotlib: on one line, not as a formula, visible in legends."""
    line = " ".join(printable(text).split())
    shown = line if len(line) <= longest else f"{line[: longest - 1]}…"
    hidden = shown.startswith("_")  # legends leave such labels out
    return ("\u200b" if hidden else "") + shown.replace("$", "\\$")


def _named(names: Sequence[str], longest: int = _LONGEST) -> list[str]:
    return [_plain(name, longest) for name in names]


def learning_curves(history: History, data: DataSplits) -> Figure:
    """Draw the shown metrics over the epochs, with the majority baseline."""
    shown = metrics.shown()
    n_rows = -(-len(shown) // 2)
    figure = Figure(figsize=(9, 3 * n_rows), layout="tight")
    epochs = [e.epoch for e in history.epochs]
    style = ".-" if len(epochs) <= _MARKED else "-"
    panels = figure.subplots(n_rows, 2).flat
    for axis in panels[len(shown) :]:
        axis.set_axis_off()
    for axis, metric in zip(panels, shown, strict=False):
        for name in history.final.sets:
            values = [e.sets[name].values[metric] for e in history.epochs]
            axis.plot(epochs, values, style, color=_COLOURS.get(name), label=_plain(name))
            if metric == "accuracy":
                baseline = majority_baseline(data.sets()[name].labels)
                axis.axhline(baseline, color=_COLOURS.get(name), linestyle=":", linewidth=1)
        axis.axvline(history.best.epoch, color="0.8", zorder=0)
        axis.set(title=metric, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if bounds := metrics.METRICS[metric].bounds:
            axis.set_ylim(bounds[0] - 0.03, bounds[1] + 0.03)
    figure.axes[0].legend()
    figure.supxlabel("dotted: always answering the largest class; grey: best epoch", fontsize=8)
    return figure


def confusion_matrices(sets: dict[str, Evaluation], classes: Sequence[str]) -> Figure:
    """Draw the counts of label against prediction, a panel for each set.

    With many classes, only colours show the fraction of each label's clips.
    """
    few = len(classes) <= _ANNOTATED
    side = max(3.6, 0.42 * len(classes)) if few else 6.0
    figure = Figure((side * len(sets), side + 0.2), layout="tight" if few else "constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sets)))
    for axis, (name, evaluation) in zip(panels, sets.items(), strict=True):
        counts = evaluation.confusion
        fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        for (i, j), count in np.ndenumerate(counts) if few else ():
            colour = "white" if fractions[i, j] > 0.5 else "black"
            axis.text(j, i, str(count), ha="center", va="center", color=colour, in_layout=False)
        axis.set(title=f"{name}, accuracy {evaluation.values['accuracy']:.3f}", xlabel="prediction")
        if len(classes) <= _NAMED:
            names, rotated = _named(classes, _SHORT), {"rotation": 30, "ha": "right"}
            axis.set_xticks(range(len(names)), names, **rotated if few else {"rotation": 90})
            axis.set_yticks(range(len(names)), names)
            axis.tick_params(labelsize="medium" if few else 6)
    panels[0].set_ylabel("label" if len(classes) <= _NAMED else "label, by number")
    if not few:
        figure.colorbar(image, ax=list(panels), label="share of the label", shrink=0.8)
    return figure


def precision_recall(sets: dict[str, Evaluation], data: DataSplits) -> Figure:
    """Draw precision against recall over all thresholds, for the positive class."""
    figure = Figure(figsize=(5.5, 4.5), layout="tight")
    axis = figure.subplots()
    for name, evaluation in sets.items():
        score = metrics.of_each_class(evaluation.probabilities)[:, data.positive]
        truth = data.sets()[name].labels == data.positive
        recall, precision = precision_recall_curve(score, truth)
        axis.step(recall, precision, where="post", color=_COLOURS.get(name), label=name)
        axis.axhline(truth.mean(), color=_COLOURS.get(name), linestyle=":", linewidth=1)
    axis.set(
        title=f"positive: {_plain(data.classes[data.positive])}; dotted: its share of the set",
        xlabel="recall",
        ylabel="precision",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axis.legend(loc="lower left")
    return figure


def precision_recall_curve(
    score: NDArray[np.floating], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision at each distinct threshold, highest threshold first."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    tp = np.cumsum(truth[order])[last_of_ties]
    n_predicted = np.flatnonzero(last_of_ties) + 1
    return tp / max(1, truth.sum()), tp / n_predicted


def clips(train: Clips, data: DataSplits, n_steps: int = 400) -> Figure:
    """Draw the first steps of a few clips of the first classes, in the encoding for the model."""
    n_shown = min(len(data.classes), _ROWS)
    shown = [np.flatnonzero(train.labels == k)[:3] for k in range(n_shown)]
    figure = Figure(figsize=(9, 1.6 * len(shown) * 1.8), layout="tight")
    panels = figure.subplots(len(shown), 3, sharex=True, sharey=True, squeeze=False)
    step, unit = data.encoding.step_in_figures
    for row, indices in zip(panels, shown, strict=True):
        for axis in row[len(indices) :]:
            axis.set_axis_off()
        for axis, i in zip(row, indices, strict=False):
            codes = train.codes[i][:n_steps]
            axis.step(np.arange(len(codes)) * step, codes, linewidth=0.8)
            title = "\n".join(_named((train.take([i]).ids[0], data.classes[train.labels[i]]), 40))
            axis.set_title(title, fontsize=7)
    more = len(data.classes) - n_shown
    figure.supxlabel(unit + f"; {more} more classes are not shown" * bool(more))
    inputs = data.encoding.inputs
    figure.supylabel(f"code, 0 to {inputs.levels - 1}" if isinstance(inputs, Codes) else "signal")
    return figure


def variants(every: Sequence[Variant]) -> Figure:
    """Draw the accuracy of each variant of a sweep: its seeds, their mean, interval, baseline.

    Of many variants, the first are drawn.
    """
    shown, more = every[:MOST], len(every[MOST:])
    sets = list(dict.fromkeys(name for variant in shown for name in variant.sets))
    size = (1.5 + 4.5 * len(sets), 1.6 + 0.45 * len(shown))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axis, name in zip(panels, sets, strict=True):
        colour = _COLOURS.get(name)
        for row, variant in enumerate(shown):
            if name not in variant.sets:
                continue
            values = variant.values(summary_key("final", f"{name}/accuracy"))
            e = variant.estimate(summary_key("final", f"{name}/accuracy"))
            if e.n > 1:
                axis.hlines(row, e.low, e.high, color=colour, linewidth=2)
            heights = row + 0.15 + 0.2 * np.arange(len(values)) / len(values)  # avoids overlap
            axis.plot(values, heights, "o", color=colour, alpha=0.6, markersize=4)
            axis.plot(e.mean, row, "D", color=colour, markeredgecolor="black")
            baseline = variant.estimate(f"baseline/{name}_accuracy").mean
            axis.vlines(baseline, row - 0.5, row + 0.5, color="0.4", linestyle=":")
        axis.set(title=f"{name} accuracy", xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5))
        axis.grid(axis="x", color="0.92")
    panels[0].set_yticks(range(len(shown)), _named([variant.name for variant in shown]))
    figure.supxlabel(
        "dots: seeds; diamond: their mean; line: its 95 % interval; "
        "dotted: always answering the largest class"
        + f"; {more} more variants are in summary.csv"
        * bool(more),
        fontsize=8,
    )
    return figure


def search(trials: Sequence[Any], importance: dict[str, float], monitor: str) -> Figure:
    """Draw the trials of an Optuna study in order, and the importance of their parameters."""
    height = max(4.0, 1.6 + 0.4 * min(len(importance), MOST))
    figure = Figure(figsize=(11, height), layout="constrained")
    history, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    done = [t for t in trials if t.state.name == "COMPLETE"]
    pruned = [t for t in trials if t.state.name == "PRUNED" and t.value is not None]
    failed = [t.number for t in trials if t.state.name == "FAIL"]
    best = np.maximum if metrics.higher_is_better(monitor) else np.minimum
    values = [t.value for t in done]
    history.plot([t.number for t in done], values, "o", color=_COLOURS["train"], label="complete")
    history.plot(
        [t.number for t in pruned],
        [t.value for t in pruned],
        "x",
        color="0.5",
        label="pruned, last value",
    )
    so_far = [*best.accumulate(values), best.reduce(values)]
    history.step(
        [*(t.number for t in done), len(trials) - 1],
        so_far,
        where="post",
        color=_COLOURS["val"],
        label="best so far",
    )
    for number in failed:
        label = "failed" if number == failed[0] else None
        history.axvline(number, color="#c44e52", alpha=0.4, label=label)
    history.set(title=f"{monitor} of {len(trials)} trials", xlabel="trial")
    history.xaxis.get_major_locator().set_params(integer=True)
    history.legend(fontsize=8)
    names = list(importance)[:MOST]
    bars.barh(range(len(names)), [importance[name] for name in names], color=_COLOURS["test"])
    bars.set_yticks(range(len(names)), _named(names), fontsize=8)
    bars.invert_yaxis()
    title = "share in the spread of the trials" if names else "too few trials to tell importance"
    bars.set(title=title, xlim=(0, 1))
    return figure
