"""What a model is trained on: sets that were checked for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..ragged import AnyData
from . import metrics

Array = NDArray[Any]
Arrays = Mapping[str, tuple[Any, Array]]  # set name -> inputs, labels


@final
@dataclass(frozen=True)
class Task:
    """Data that was checked for a model: for each set its inputs and labels, and what they mean."""

    sets: dict[str, tuple[AnyData, NDArray[np.int64]]]
    monitor: str
    n_batches: int
    n_classes: int
    positive: int = 1
    classes: tuple[str, ...] = ()
    class_weights: Array | None = None  # what a training clip of each class counts

    def measures(self) -> tuple[dict[str, int], set[str], int]:
        """Return the size of each set, the names of what is measured, the number of classes."""
        nothing = np.zeros((self.n_classes, self.n_classes), np.int64)
        found, _ = metrics.scores(nothing, self.positive, self.classes)
        sizes = {name: len(labels) for name, (_, labels) in self.sets.items()}
        return sizes, {*metrics.names("losses"), *found}, self.n_classes


def check_arrays(data: Arrays) -> None:
    """Raise DataError where there is no training set, or a set's labels are none."""
    if "train" not in data:
        raise DataError(f"the data has no set 'train', only {', '.join(data) or 'nothing'}")
    for name, (x, labels) in data.items():
        _check_labels(name, np.asarray(labels), len(x))


def _check_labels(name: str, labels: Array, n: int) -> None:
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or (n and labels.min() < 0):
        raise DataError(
            f"the labels of set '{name}' must be {n} whole numbers from 0 on, "
            f"got {labels.dtype} {labels.shape}"
        )
