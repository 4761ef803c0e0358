"""Split clips into training, validation and test sets."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, DataError
from .encode import check_choice, check_integer

Indices = NDArray[np.int64]


def split_indices(
    labels: ArrayLike,
    tracks: Sequence[str],
    by: str = "track",
    sizes: Sequence[float] = (2, 1, 1),
    stratify: bool = True,
    folds: int | None = None,
    fold: int = 0,
    *,
    rng: np.random.Generator,
    classes: Sequence[str] = (),
) -> tuple[Indices, Indices, Indices]:
    """Deal clips to a training, a validation and a test set.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        Class of each clip.
    tracks : sequence of str, length N
        Recording of each clip.
    by : {"clip", "track"}
        What is dealt. `track` keeps each recording on one side, so that a model cannot score by
        recognising recordings. `clip` deals single clips.
    sizes : three numbers
        Relative sizes of the sets, or fractions; a size of 0 leaves that set empty.
    stratify : bool
        Deal each class for itself, in proportion. False with `by="clip"` and no folds takes the
        clips in the order given.
    folds : int or None
        Number k of folds; `sizes` is then ignored and the test set is empty.
    fold : int
        Which of the k folds, from 0, is the validation set.
    rng : numpy.random.Generator
        Shuffles what is dealt. The folds of one partition need equal generators.
    classes : sequence of str
        Names of the classes, for messages.

    Returns
    -------
    train, val, test : arrays of int64
        Ascending indices of clips; together every clip, once.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.
    DataError
        If there is too little of a class to be in every set.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> parts = split_indices([0, 1] * 128, ["a"] * 256, "clip", (2, 1, 0), rng=rng)
    >>> [len(part) for part in parts]
    [171, 85, 0]
    """
    check_split(by, sizes, stratify, folds, fold)
    labels = np.asarray(labels, dtype=np.int64)
    if by == "clip":
        first = unit_of = np.arange(len(labels))
    else:
        _, first, unit_of = np.unique(np.asarray(tracks), return_index=True, return_inverse=True)
    unit_labels = labels[first]
    in_order = by == "clip" and not stratify and folds is None
    order = np.arange(len(first)) if in_order else rng.permutation(len(first))
    if stratify:
        groups = [order[unit_labels[order] == label] for label in np.unique(labels)]
    else:
        groups = [order]
    n_sets = folds if folds is not None else sum(size > 0 for size in sizes)
    for group in groups:
        if len(group) < n_sets:
            of_class = stratify and len(group)
            subject = _name(int(unit_labels[group[0]]), classes) if of_class else "the data set"
            raise DataError(_too_few(subject, len(group), by, n_sets, folds))
    if folds is not None:
        set_of = _fold(groups, folds, fold)
    else:
        set_of = _deal(groups, np.asarray(sizes, dtype=np.float64))
    train, val, test = (np.flatnonzero(set_of[unit_of] == index) for index in range(3))
    missing = np.setdiff1d(labels, labels[train])
    if missing.size:
        raise DataError(
            f"the training set has no clip of {_name(int(missing[0]), classes)}: "
            "set dataset.stratify=true"
        )
    return train, val, test


def check_split(
    by: str, sizes: Sequence[float], stratify: bool, folds: int | None, fold: int
) -> None:
    """Raise ConfigError for an option of `split_indices` that cannot work."""
    check_choice("dataset.split", by, ("track", "clip"))
    if not isinstance(stratify, bool):
        raise ConfigError(f"dataset.stratify={stratify} does not work: set true or false")
    try:
        numbers = [float(size) for size in sizes]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not all(0 <= x < math.inf for x in numbers) or numbers[0] == 0:
        raise ConfigError(
            f"dataset.sizes={sizes} does not work: set three sizes (train, val, test) of 0 or "
            "more, the first above 0, such as [2,1,1]"
        )
    if folds is not None:
        check_integer("dataset.folds", folds, low=2)
        check_integer("dataset.fold", fold, low=0, high=folds - 1)


def _fold(groups: list[Indices], folds: int, fold: int) -> Indices:
    """Put fold `fold` into set 1, the others into set 0."""
    order = np.concatenate(groups)
    set_of = np.empty(len(order), dtype=np.int64)
    # The count runs on from group to group, so that the folds differ by one unit at most.
    set_of[order] = np.arange(len(order)) % folds == fold
    return set_of


def _deal(groups: list[Indices], sizes: NDArray[np.float64]) -> Indices:
    """Deal each group to the three sets in proportion, at least one unit per set."""
    set_of = np.empty(sum(map(len, groups)), dtype=np.int64)
    wanted = (sizes > 0).astype(np.int64)
    owed = np.zeros(3)  # what rounding still owes each set; the next group makes up for it
    for group in groups:
        target = len(group) * sizes / sizes.sum() + owed
        counts = wanted.copy()
        while counts.sum() < len(group):
            counts[np.argmax(target - counts)] += 1
        owed = target - counts
        set_of[group] = np.repeat(np.arange(3), counts)
    return set_of


def _name(label: int, classes: Sequence[str]) -> str:
    return f"class {classes[label]!r}" if label < len(classes) else f"class {label}"


def _too_few(subject: str, n_units: int, by: str, n_sets: int, folds: int | None) -> str:
    remedy = "lower dataset.folds" if folds else "set one of dataset.sizes to 0"
    if by == "track":
        remedy = f"set dataset.split=clip, add recordings, or {remedy}"
    sets = "folds" if folds else "sets"
    return f"{subject} has {n_units} {by}(s), too few for {n_sets} {sets}: {remedy}"
