"""A finished run in few numbers."""

from ..datasets import DataSplits
from . import metrics
from .history import Epoch, History


def summarise(history: History, data: DataSplits) -> dict[str, float]:
    """Return what stands beside a run in a list: best and final values, baselines, intervals."""
    found: dict[str, float] = {"best/epoch": float(history.best.epoch)}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        found |= {f"{prefix}/{k.replace('/', '_', 1)}": v for k, v in headline(epoch).items()}
    for name, clips in data.sets().items():
        found[f"baseline/{name}_accuracy"] = metrics.majority_baseline(clips.labels)
        accuracy = history.final.sets[name].values["accuracy"]
        low, high = metrics.wilson_interval(accuracy, len(clips))
        found |= {f"final/{name}_accuracy_low": low, f"final/{name}_accuracy_high": high}
    found["seconds/epoch_mean"] = sum(e.train_seconds for e in history.epochs) / len(history.epochs)
    return found


def of_scores(history: History, data: DataSplits) -> dict[str, float]:
    """Return the best and final values of what needs scores, such as ``final/val_roc_auc``.

    They are computed once for a run on record, and not in each epoch: scikit-learn takes longer to
    import than a small run to train, and longer for a set than its evaluation.
    """
    found: dict[str, float] = {}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        for name, clips in data.sets().items():
            p = epoch.sets[name].probabilities
            values = metrics.of_scores(clips.labels, p, data.positive)
            found |= {summary_key(prefix, f"{name}/{k}"): v for k, v in values.items()}
    return found


def headline(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch without those of single classes."""
    return {key: value for key, value in epoch.flat().items() if key.count("/") == 1}


def summary_key(when: str, monitor: str) -> str:
    """Return the name of a value in the summary of a run: final, val/loss -> final/val_loss."""
    return f"{when}/{monitor.replace('/', '_', 1)}"
