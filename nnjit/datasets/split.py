"""Split clips into training, validation and test sets."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, DataError
from .balance import Counts, Goal, Indices, closest
from .encode import check_choice, check_integer
from .inputs import RECORDINGS, Words


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
    words: Words = RECORDINGS,
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
    words : Words
        What messages call the clips.

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
    known, classes_of = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    if by == "clip":
        first = unit_of = np.arange(len(classes_of))
    else:
        first, unit_of = _units(tracks)
    counts = np.zeros((len(first), len(known) + 1))  # clips of each class, and of all, in each unit
    np.add.at(counts, (unit_of, classes_of), 1)
    counts[:, -1] = counts.sum(axis=1)
    names = [_name(label, classes) for label in known.tolist()] + ["the data set"]
    parts = np.ones(folds) if folds is not None else np.asarray(sizes, dtype=np.float64)
    wanting = _Wanting(counts, names, by, int((parts > 0).sum()), folds is not None, words)
    wanting.check(stratify)

    def draw() -> Indices:
        shuffled = by == "track" or stratify or folds is not None
        order = rng.permutation(len(first)) if shuffled else np.arange(len(first))
        groups = [order]
        if stratify:
            groups = [order[classes_of[first][order] == c] for c in range(len(known))]
        return _deal_folds(groups, len(parts)) if folds is not None else _deal(groups, parts)

    if by == "clip":
        set_of = draw()  # single clips come out as asked, up to rounding
    else:
        used = np.flatnonzero(parts)
        goal = Goal.of(counts, parts[used] / parts.sum(), stratify, train_first=folds is None)
        set_of = used[closest(lambda: np.searchsorted(used, draw()), counts, goal)]
    if folds is not None:
        set_of = (set_of == fold).astype(np.int64)
    train, val, test = (np.flatnonzero(set_of[unit_of] == index) for index in range(3))
    wanting.check_training(np.bincount(classes_of[train], minlength=len(known)))
    return train, val, test


def _units(tracks: Sequence[str]) -> tuple[Indices, Indices]:
    """Return where each track comes first, in the order of their names, and the track of each."""
    place = {track: i for i, track in enumerate(sorted(set(tracks)))}
    unit_of = np.fromiter((place[track] for track in tracks), np.int64, len(tracks))
    _, first = np.unique(unit_of, return_index=True)
    return first, unit_of


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


def _deal_folds(groups: list[Indices], folds: int) -> Indices:
    order = np.concatenate(groups)
    set_of = np.empty(len(order), dtype=np.int64)
    # The count runs on from group to group, so that the folds differ by one unit at most.
    set_of[order] = np.arange(len(order)) % folds
    return set_of


def _deal(groups: list[Indices], sizes: NDArray[np.float64]) -> Indices:
    """Deal each group to the three sets in proportion, at least one unit per set."""
    set_of = np.empty(sum(map(len, groups)), dtype=np.int64)
    wanted = (sizes > 0).astype(np.int64)
    owed = np.zeros(3)  # what rounding still owes each set; the next group makes up for it
    for group in groups:
        target = len(group) * sizes / sizes.sum() + owed
        counts = wanted * (wanted.cumsum() <= len(group))
        while counts.sum() < len(group):
            counts[np.argmax(target - counts)] += 1
        owed = target - counts
        set_of[group] = np.repeat(np.arange(3), counts)
    return set_of


def _name(label: int, classes: Sequence[str]) -> str:
    return f"class {classes[label]!r}" if label < len(classes) else f"class {label}"


class _Wanting:
    """Tells what there is too little of, with the remedies that would work."""

    def __init__(
        self, counts: Counts, names: list[str], by: str, n_sets: int, folds: bool, words: Words
    ) -> None:
        self._units = (counts > 0).sum(axis=0).tolist()
        self._clips = counts.sum(axis=0).tolist()
        self._names, self._by, self._n_sets, self._folds = names, by, n_sets, folds
        self._words, self._unit = words, words.clip if by == "clip" else words.track

    def check(self, stratify: bool) -> None:
        """Raise DataError unless each class, or all of them together, can be in every set."""
        columns = range(len(self._names)) if stratify else [-1]
        for k in columns:
            if self._units[k] < self._n_sets:
                sets = "folds" if self._folds else "sets"
                raise DataError(
                    f"{self._names[k]} has {self._units[k]} {self._unit}(s), too few for "
                    f"{self._n_sets} {sets}: {self._remedies(k)}"
                )

    def check_training(self, train: NDArray[np.int64]) -> None:
        """Raise DataError where the training set, which holds so many of each class, lacks one."""
        if train.all():
            return
        k = int(train.argmin())
        enough = self._units[k] >= self._n_sets
        remedy = "set dataset.stratify=true" if enough else self._remedies(k)
        raise DataError(
            f"the training set has no {self._words.clip} of {self._names[k]}, which has "
            f"{self._units[k]} {self._unit}(s) in all: {remedy}"
        )

    def _remedies(self, k: int) -> str:
        found = []
        if self._by == "track":
            if self._clips[k] >= self._n_sets:
                found.append("set dataset.split=clip")
        else:
            found.append("raise dataset.n_clips")
        found.append(f"add {self._words.source}s")
        if 1 < self._units[k] < self._n_sets:
            n = self._units[k]
            sizes = f"set {self._n_sets - n} of dataset.sizes to 0"
            found.append(f"lower dataset.folds to {n}" if self._folds else sizes)
        return ", ".join(found[:-1]) + ", or " * (len(found) > 1) + found[-1]
