"""Names and values of a run in a form that MLflow accepts."""

import csv
import functools
import hashlib
import io
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..training import metrics
from ..training.history import Epoch, History
from ..training.summary import headline

# The metrics of version 0.1. Newer ones follow from the same confusion matrix, and are left out:
# with them, the digests of recorded runs would change.
_DIGESTED = ("loss", "accuracy", "recall", "precision", "f1", "specificity", "npv")
_LONGEST = 250  # characters of a name in MLflow
_MOST_OF_CLASSES = 100  # logged values of single classes in a set: 20 classes with 5 metrics


def metrics_digest(history: History) -> str:
    """Return 16 hex digits that change with any bit of the `digested` values (SHA-256)."""
    digest = hashlib.sha256()
    for epoch in history.epochs:
        for key, value in sorted(digested(epoch).items()):
            digest.update(f"{epoch.epoch} {metric_key(key)} ".encode() + struct.pack("<d", value))
    return digest.hexdigest()[:16]


def digested(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch that its digest includes."""
    return {key: value for key, value in epoch.flat().items() if key.split("/")[1] in _DIGESTED}


def logged(epoch: Epoch) -> dict[str, float]:
    """Return the values of an epoch to log, with those of single classes only if they are few."""
    values, set_values = epoch.flat(), headline(epoch)
    few = len(values) - len(set_values) <= _MOST_OF_CLASSES * len(epoch.sets)
    return values if few else set_values


def table_of_classes(epoch: Epoch, classes: Sequence[str]) -> str:
    """Return CSV with the metrics of each class in each set, empty cells for missing values."""
    file = io.StringIO(newline="")
    out = csv.writer(file)
    of_one = metrics.names("counts")
    out.writerow(["set", "class", "clips", *of_one])
    for name, evaluation in epoch.sets.items():
        clips = evaluation.confusion.sum(axis=1)
        for k, title in enumerate(classes):
            keys = [f"{metric}/{title}" for metric in of_one]
            out.writerow([name, title, clips[k], *(evaluation.values.get(key, "") for key in keys)])
    return file.getvalue()


def metric_key(name: str) -> str:
    """Return a name that MLflow accepts: letters, digits and ``_-. :/``, without ``..``."""
    allowed = "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)
    names = (name for name in allowed.split("/") if name not in ("", ".", ".."))
    return "/".join(names)[:_LONGEST].rstrip("/")


def metric_keys(names: Iterable[str]) -> dict[str, str]:
    """Return for each name a unique one that MLflow accepts.

    It is that of `metric_key` if no other name has the same; else characters that MLflow does not
    accept become their code points: ``C♯`` and ``C♭`` are ``C_266f`` and ``C_266d``.
    """
    return dict(_metric_keys(tuple(names)))


@functools.lru_cache(maxsize=16)  # the names of all epochs of a run are the same
def _metric_keys(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    plain = {name: metric_key(name) for name in names}
    counts = Counter(plain.values())
    keys = {n: key for n, key in plain.items() if counts[key] == 1 or n == key}
    taken = set(keys.values())
    for name in names:
        if name in keys:
            continue
        spelled = "".join(c if c.isalnum() or c in "-. :/" else f"_{ord(c):x}" for c in name)
        key, n = metric_key(spelled), 1
        while key in taken:
            n += 1
            key = f"{metric_key(spelled)[: _LONGEST - 8]} {n}"
        keys[name] = key
        taken.add(key)
    return tuple((name, keys[name]) for name in names)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts and lists as one dict with dotted keys."""
    items: Any = ()
    if isinstance(config, dict):
        items = config.items()
    elif isinstance(config, list) and any(isinstance(v, dict | list) for v in config):
        items = enumerate(config)
    if not items:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
