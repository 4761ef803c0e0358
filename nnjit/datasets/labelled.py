"""What every data set shares: clips are drawn, and dealt to a training, validation and test set."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..parts import Part
from .clips import IN_MEMORY, Clips, DataSplits
from .encode import check_integer
from .inputs import RECORDINGS, InputEncoding, Words
from .names import Name, as_typed
from .split import check_split, split_indices


class LabelledData(Part, ABC):
    """Labelled clips, drawn and split for training.

    A subclass says its `name`, its `classes` and its `pool`.

    Parameters
    ----------
    n_clips : int or None
        Clips drawn at random from all there are; None takes all.
    split, sizes, stratify, folds, fold
        See `split_indices`, where `split` is called `by`.
    positive : str, int or None
        Name or label of the class that recall and precision are about; None is label 1. What is
        the name of a class and the label of another is the name.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.
    """

    name: ClassVar[str]
    words: ClassVar[Words] = RECORDINGS

    def __init__(
        self,
        *,
        n_clips: int | None = None,
        split: str = "track",
        sizes: Sequence[float] = (2, 1, 1),
        stratify: bool = True,
        folds: int | None = None,
        fold: int = 0,
        positive: Name | None = None,
    ) -> None:
        if n_clips is not None:
            check_integer("dataset.n_clips", n_clips, low=1)
        check_split(split, sizes, stratify, folds, fold)
        self.n_clips = n_clips
        self.split, self.sizes, self.stratify = split, tuple(sizes), stratify
        self.folds, self.fold = folds, fold
        self.positive = positive

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""

    @abstractmethod
    def pool(self) -> tuple[Clips, InputEncoding]:
        """Return all clips, always in the same order, and how they were made."""

    def adapt(
        self, pool: Clips, train: NDArray[np.int64], encoding: InputEncoding
    ) -> tuple[Clips, InputEncoding]:
        """Return the clips as the model reads them, once it is known which are for training.

        Parameters
        ----------
        pool : Clips
            Those that were drawn.
        train : array of int64
            Positions of the training set, the only one that may be learned from.
        encoding : InputEncoding
            As `pool` returned it; what was learned is added.
        """
        return pool, encoding

    def deal(
        self, pool: Clips, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions in the pool of the training, validation and test set."""
        return self._split(pool, self.sizes, rng)

    def _split(
        self, pool: Clips, sizes: Sequence[float], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return split_indices(
            pool.labels,
            pool.tracks,
            self.split,
            sizes,
            self.stratify,
            self.folds,
            self.fold,
            rng=rng,
            classes=self.classes,
            words=self.words,
        )

    def load(self, seed: int | None = 0) -> DataSplits:
        """Read, draw and split the clips.

        Parameters
        ----------
        seed : int or None
            Seed of the draw and the split; None differs every time.

        Returns
        -------
        DataSplits
            The same for the same recordings, options and seed.

        Raises
        ------
        DataError
            If no recording can be used, or a class has no clips, or too little for the split.
        ConfigError
            If `seed` or `positive` does not work.

        Warns
        -----
        SkippedFileWarning
            For each recording that is left out.
        UserWarning
            If there are fewer clips than `n_clips`, recordings have the same content, or a set is
            far from what was asked in size or shares of classes.
        """
        if seed is not None:
            check_integer("seed", seed, low=0)
        rng = np.random.default_rng(seed)
        pool, encoding = self.pool()
        positive = self._positive_label()
        available, pool = len(pool), self._draw(pool, rng)
        parts = self.deal(pool, rng)
        pool, encoding = self.adapt(pool, parts[0], encoding)
        sets = [pool.take(part) for part in parts]
        if pool.codes.nbytes <= IN_MEMORY:
            sets = [clips.in_memory() for clips in sets]
        train, *others = sets
        val, test = (clips if len(clips) else None for clips in others)
        splits = DataSplits(
            train, val, test, self.classes, positive, encoding, self.name, available, self._asked()
        )
        self._warn_uneven(splits)
        return splits

    def _asked(self) -> tuple[float, ...]:
        if self.folds is not None:
            return 1 - 1 / self.folds, 1 / self.folds, 0.0
        return tuple(size / sum(self.sizes) for size in self.sizes)

    def _warn_uneven(self, splits: DataSplits) -> None:
        if uneven := splits.uneven():
            remedy = "set dataset.stratify=true"
            if self.stratify:
                remedy = "raise dataset.n_clips"
                if self.split == "track":
                    remedy = (
                        f"add {self.words.source}s, change dataset.sizes, or set dataset.split=clip"
                    )
            warnings.warn(
                f"{self.name} does not divide by {self.split} as asked: {uneven}: {remedy}",
                stacklevel=3,
            )

    def _draw(self, pool: Clips, rng: np.random.Generator) -> Clips:
        if self.n_clips is not None and self.n_clips > len(pool):
            warnings.warn(
                f"dataset.n_clips={self.n_clips}, but {self.name} has {len(pool)} "
                f"{self.words.clip}s: all are used; null asks for all",
                stacklevel=3,
            )
        drawn = pool.take(rng.permutation(len(pool))[: self.n_clips])
        self._check_classes(drawn, f"raise dataset.n_clips={self.n_clips}")
        return drawn

    def _check_classes(self, clips: Clips, remedy: str) -> None:
        if len(self.classes) < 2:
            raise DataError(f"{self.name} has one class, {self.classes[0]!r}: add another")
        counts = np.bincount(clips.labels, minlength=len(self.classes))
        if not counts.all():
            empty = self.classes[int(counts.argmin())]
            raise DataError(
                f"class {empty!r} of {self.name} has no {self.words.clip}s left: {remedy}"
            )

    def _positive_label(self) -> int:
        classes = self.classes
        if self.positive is None:
            return 1
        name = as_typed("dataset.positive", self.positive, classes)
        is_label = type(self.positive) is int and 0 <= self.positive < len(classes)
        if name in classes:
            label = classes.index(name)
            if is_label and label != self.positive:
                warnings.warn(
                    f"dataset.positive={name} is taken as the class named {name} (label {label}), "
                    f"not as label {name} (class {classes[int(self.positive)]!r})",
                    stacklevel=3,
                )
            return label
        if is_label:
            return int(self.positive)
        raise ConfigError(
            f"dataset.positive={self.positive} is no class of {self.name}: use "
            f"{', '.join(classes)}, or a label from 0 to {len(classes) - 1}"
        )
