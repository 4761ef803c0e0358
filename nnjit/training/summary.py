"""The summary of a finished run: its best and final values, baselines and intervals."""

from ..datasets import DataSplits
from . import metrics
from .history import Epoch, History


def summarise(history: History, data: DataSplits) -> dict[str, float]:
    """Return the summary by key: best and final values, baselines, confidence intervals."""
    values: dict[str, float] = {"best/epoch": float(history.best.epoch)}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        values |= {f"{prefix}/{k.replace('/', '_', 1)}": v for k, v in headline(epoch).items()}
    for name, clips in data.sets().items():
        values[f"baseline/{name}_accuracy"] = metrics.majority_baseline(clips.labels)
        accuracy = history.final.sets[name].values["accuracy"]
        low, high = metrics.wilson_interval(accuracy, len(clips))
        values |= {f"final/{name}_accuracy_low": low, f"final/{name}_accuracy_high": high}
    seconds = sum(epoch.train_seconds for epoch in history.epochs)
    values["seconds/epoch_mean"] = seconds / len(history.epochs)
    return values


def of_scores(history: History, data: DataSplits) -> dict[str, float]:
    """Return the best and final values of metrics of scores, such as ``final/val_roc_auc``.

    They are computed once, for a run on record, and not in each epoch: importing scikit-learn takes
    longer than a small run, and computing them takes longer than the evaluation of a set.
    """
    values: dict[str, float] = {}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        for name, clips in data.sets().items():
            p = epoch.sets[name].probabilities
            scores = metrics.of_scores(clips.labels, p, data.positive)
            values |= {summary_key(prefix, f"{name}/{k}"): v for k, v in scores.items()}
    return values


def headline(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch without those of single classes."""
    return {key: value for key, value in epoch.flat().items() if key.count("/") == 1}


def summary_key(when: str, monitor: str) -> str:
    """Return the name of a value in the summary of a run: final, val/loss -> final/val_loss."""
    return f"{when}/{monitor.replace('/', '_', 1)}"
