"""The abstract data set: from labelled recordings to splits of encoded clips."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, SkippedFileWarning
from ..parts import Part
from ..runtime.places import given_path
from . import copies
from .audio import Prepared, encode_signal
from .cache import cached_clips
from .clips import Clips, DataSplits
from .encode import Encoding, check_integer
from .names import Name, as_typed
from .raw import standardised, statistics
from .reader import warn
from .split import check_split, split_indices

Signal = tuple[NDArray[np.float64], float]


@dataclass(frozen=True)
class Recording:
    """A labelled recording that has not been read yet.

    Attributes
    ----------
    name : str
        What messages and predictions call it; unique in its data set.
    label : int
        Class, from 0.
    source : Path or callable
        A file, or a function that returns (mono signal, samples per second).
    track : str
        Group for a split by track; the name where it is left empty. Recordings with the same
        content are one group, whatever is said here.
    """

    name: str
    label: int
    source: Path | Callable[[], Signal]
    track: str = ""


class Dataset(Part, ABC):
    """Labelled recordings that become encoded clips, split for training.

    A subclass says its `name`, its `classes` and its `sources`; the rest is shared.

    Parameters
    ----------
    n_clips : int or None
        Clips drawn at random from all there are; None takes all.
    duration : float
        Length of a clip in seconds.
    rate : float or None
        Samples per second after resampling; None keeps the rate of the files.
    resampler, levels, encoding, normalise, frame, hop, channels
        See `Encoding`, where `encoding` is called `method`.
    split, sizes, stratify, folds, fold
        See `split_indices`, where `split` is called `by`.
    positive : str, int or None
        Name or label of the class that recall and precision are about; None is label 1. What is
        the name of a class and the label of another is the name.
    cache_dir : str, Path or None
        Folder for prepared clips; None does without.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        n_clips: int | None = 256,
        duration: float = 1.0,
        rate: float | None = 10_000,
        resampler: str = "soxr",
        levels: int = 16,
        encoding: str = "uniform",
        normalise: str = "recording",
        frame: int = 1,
        hop: int | None = None,
        channels: int | None = 1,
        split: str = "track",
        sizes: Sequence[float] = (2, 1, 1),
        stratify: bool = True,
        folds: int | None = None,
        fold: int = 0,
        positive: Name | None = None,
        cache_dir: str | Path | None = "runs/cache",
    ) -> None:
        if n_clips is not None:
            check_integer("dataset.n_clips", n_clips, low=1)
        check_split(split, sizes, stratify, folds, fold)
        self.n_clips = n_clips
        self.encoding = Encoding(
            levels, encoding, rate, duration, resampler, normalise, frame, hop, channels
        )
        self.split, self.sizes, self.stratify = split, tuple(sizes), stratify
        self.folds, self.fold = folds, fold
        self.positive = positive
        self.cache_dir = None if cache_dir is None else given_path(cache_dir)

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""

    @abstractmethod
    def sources(self) -> list[Recording]:
        """List the recordings, always in the same order.

        Raises
        ------
        DataError
            If there is nothing to list.
        """

    def load(self, seed: int | None = 0) -> DataSplits:
        """Read, encode, draw and split the clips.

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
        pool, encoding = self._prepare(self.sources())
        positive = self._positive_label()
        available, pool = len(pool), self._draw(pool, rng)
        parts = split_indices(
            pool.labels,
            pool.tracks,
            self.split,
            self.sizes,
            self.stratify,
            self.folds,
            self.fold,
            rng=rng,
            classes=self.classes,
        )
        if encoding.is_raw and encoding.normalise == "training":
            pool, encoding = _by_training(pool, parts[0], encoding)
        train, *others = (pool.take(part) for part in parts)
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
                    remedy = "add recordings, change dataset.sizes, or set dataset.split=clip"
            warnings.warn(
                f"{self.name} does not divide by {self.split} as asked: {uneven}: {remedy}",
                stacklevel=3,
            )

    def _prepare(self, recordings: list[Recording]) -> tuple[Clips, Encoding]:
        """Encode the recordings that can be used; the encoding tells their rate and channels."""
        used: list[tuple[Recording, Prepared]] = []
        for recording in recordings:
            try:
                used.append((recording, self._encode(recording)))
            except DataError as error:
                warnings.warn(f"{recording.name} {error}", SkippedFileWarning, stacklevel=3)
            else:
                warn(recording.name, used[-1][1].remarks, stacklevel=3)
        if not used:
            raise DataError(
                f"none of the {len(recordings)} recordings of {self.name} can be used: "
                "see the warnings above"
            )
        tracks = self._tracks(used)
        rates = {prepared.rate: recording.name for recording, prepared in used}
        if len(rates) > 1:
            seen = ", ".join(f"{rate:g} Hz ({name})" for rate, name in sorted(rates.items()))
            raise DataError(f"dataset.rate=null, but the files differ, {seen}: set dataset.rate")
        encoding = replace(self.encoding, rate=rates.popitem()[0])
        if encoding.is_raw:
            encoding = replace(encoding, channels=_common_channels(used, encoding.frame))
        counts = [len(prepared.codes) for _, prepared in used]
        clips = Clips(
            np.concatenate([prepared.codes for _, prepared in used]),
            np.repeat(np.array([recording.label for recording, _ in used], np.int64), counts),
            tuple(r.name for (r, _), n in zip(used, counts, strict=True) for _ in range(n)),
            tuple(track for track, n in zip(tracks, counts, strict=True) for _ in range(n)),
            np.concatenate([prepared.offsets for _, prepared in used]),
        )
        self._check_classes(clips, "check its recordings")
        return clips, encoding

    def _tracks(self, used: list[tuple[Recording, Prepared]]) -> list[str]:
        """Return the group of each recording; those with the same clips are of one group."""
        recordings = [recording for recording, _ in used]
        same = copies.find([prepared.codes for _, prepared in used])
        for line in copies.tell([(r.name, self.classes[r.label]) for r in recordings], same):
            warnings.warn(line, stacklevel=4)
        return copies.join([r.track or r.name for r in recordings], same)

    def _encode(self, recording: Recording) -> Prepared:
        if isinstance(recording.source, Path):
            return cached_clips(recording.source, self.encoding, self.cache_dir)
        return encode_signal(*recording.source(), self.encoding)

    def _draw(self, pool: Clips, rng: np.random.Generator) -> Clips:
        if self.n_clips is not None and self.n_clips > len(pool):
            warnings.warn(
                f"dataset.n_clips={self.n_clips}, but {self.name} has {len(pool)} clips: "
                "all are used; null asks for all",
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
            raise DataError(f"class {empty!r} of {self.name} has no clips left: {remedy}")

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


def _common_channels(used: list[tuple[Recording, Prepared]], frame: int) -> int:
    channels = {
        int(prepared.codes.shape[2]) // frame: recording.name for recording, prepared in used
    }
    if len(channels) > 1:
        seen = ", ".join(f"{n} ({name})" for n, name in sorted(channels.items()))
        raise DataError(
            f"dataset.channels=null, but the files have different numbers of channels, {seen}: "
            "set dataset.channels=1 for their mean"
        )
    return channels.popitem()[0]


def _by_training(
    pool: Clips, train: NDArray[np.int64], encoding: Encoding
) -> tuple[Clips, Encoding]:
    """Normalise all clips by the statistics of the training set, which the encoding keeps."""
    mean, std = statistics(pool.codes[train], encoding.channels or 1)
    signals = standardised(pool.codes.astype(np.float32, copy=False), mean, std)
    return replace(pool, codes=signals), replace(encoding, mean=mean, std=std)
