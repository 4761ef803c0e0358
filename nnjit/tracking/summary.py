"""A finished run in few numbers, and names and values in the form that MLflow takes."""

import hashlib
import struct
from typing import Any

from .. import metrics
from ..datasets import DataSplits
from ..history import Epoch, History


def summarise(history: History, data: DataSplits) -> dict[str, float]:
    """Return what stands beside a run in a list: best and final values, baselines, intervals."""
    found: dict[str, float] = {"best/epoch": float(history.best.epoch)}
    for prefix, epoch in (("best", history.best), ("final", history.final)):
        found |= {f"{prefix}/{k.replace('/', '_', 1)}": v for k, v in _headline(epoch).items()}
    for name, clips in data.sets().items():
        found[f"baseline/{name}_accuracy"] = metrics.majority_baseline(clips.labels)
        accuracy = history.final.sets[name].values["accuracy"]
        low, high = metrics.wilson_interval(accuracy, len(clips))
        found |= {f"final/{name}_accuracy_low": low, f"final/{name}_accuracy_high": high}
    found["seconds/epoch_mean"] = sum(e.train_seconds for e in history.epochs) / len(history.epochs)
    return found


def metrics_digest(history: History) -> str:
    """Return 16 hex digits that change with any bit of any metric of any epoch (SHA-256)."""
    digest = hashlib.sha256()
    for epoch in history.epochs:
        for key, value in sorted(epoch.flat().items()):
            digest.update(f"{epoch.epoch} {metric_key(key)} ".encode() + struct.pack("<d", value))
    return digest.hexdigest()[:16]


def _headline(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch without those of single classes."""
    return {key: value for key, value in epoch.flat().items() if key.count("/") == 1}


def metric_key(name: str) -> str:
    """Return a name that MLflow takes: letters, digits and ``_-. :/``, a path without detours."""
    kept = "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)
    return "/".join(part for part in kept.split("/") if part not in ("", ".", ".."))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts and lists as one dict with dotted keys."""
    items: Any = ()
    if isinstance(config, dict):
        items = config.items()
    elif isinstance(config, list) and any(isinstance(v, dict | list) for v in config):
        items = enumerate(config)
    if not items:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found
