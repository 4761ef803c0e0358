"""What a data set gives: clips of symbols or samples, in up to three sets."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..lazy import LazyClips
from ..ragged import AnyData, Ragged
from .inputs import InputEncoding
from .repeated import Repeated

IN_MEMORY = 1 << 28  # bytes of clips; more are read when a batch needs them


@dataclass(frozen=True, eq=False)
class Clips:
    """Encoded clips and where each comes from.

    Attributes
    ----------
    codes : array of uint8, shape (N, T), or of float32, shape (N, T, D); or Ragged
        Symbols, 0 to levels - 1, or signals of D features; clips of any length are `Ragged`. More
        than 256 MB of recordings are `LazyClips`, which read what is asked for.
    labels : array of int64, shape (N,)
        Class of each clip.
    files : sequence of str, length N
        Recording of each clip, relative to the folder of the data set.
    tracks : sequence of str, length N
        Group of each clip; a split by track keeps a group on one side.
    offsets : array of float64, shape (N,)
        Start of each clip, seconds into its recording; NaN where it is no part of one.
    """

    codes: AnyData
    labels: NDArray[np.int64]
    files: Sequence[str]
    tracks: Sequence[str]
    offsets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> list[str]:
        """A readable name for each clip, such as "el_senator/armygeddon.ogg@12.0s"."""
        return [
            f if math.isnan(o) else f"{f}@{round(o, 4)}s"
            for f, o in zip(self.files, self.offsets.tolist(), strict=True)
        ]

    def take(self, indices: ArrayLike) -> "Clips":
        """Return the clips at `indices`, in that order.

        Parameters
        ----------
        indices : array-like of int, shape (M,)
            Positions from 0.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return Clips(
            self.codes.take(chosen) if isinstance(self.codes, LazyClips) else self.codes[chosen],
            self.labels[chosen],
            _taken(self.files, chosen),
            _taken(self.tracks, chosen),
            self.offsets[chosen],
        )

    def in_memory(self) -> "Clips":
        """Return the clips with their codes in memory."""
        lazy = isinstance(self.codes, LazyClips)
        return replace(self, codes=np.asarray(self.codes)) if lazy else self


def _taken(names: Sequence[str], indices: NDArray[np.int64]) -> Sequence[str]:
    return names.take(indices) if isinstance(names, Repeated) else tuple(names[i] for i in indices)


def _parts(codes: AnyData) -> tuple[NDArray[Any] | LazyClips, ...]:
    if isinstance(codes, Ragged):
        return codes.values, codes.lengths.astype("<i8")
    return (codes,)


@dataclass(frozen=True, eq=False)
class DataSplits:
    """The clips of a data set, split for training.

    Attributes
    ----------
    train : Clips
        What the model learns from.
    val, test : Clips or None
        None where that set is empty.
    classes : tuple of str
        Name of each label.
    positive : int
        The label that recall and precision are about.
    encoding : InputEncoding
        How the clips were made; nothing is open in it.
    name : str
        Name of the data set.
    available : int or None
        Number of clips that the recordings have, of which these were drawn; None is unknown.
    asked : tuple of float
        Share of the clips that each of train, val and test was to have; empty is unknown.
    """

    train: Clips
    val: Clips | None
    test: Clips | None
    classes: tuple[str, ...]
    positive: int
    encoding: InputEncoding
    name: str
    available: int | None = None
    asked: tuple[float, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.sets().values()))

    def sets(self) -> dict[str, Clips]:
        """Return the sets that hold clips, by name: "train", "val", "test"."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: clips for name, clips in every.items() if clips is not None and len(clips)}

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any symbol, label or order in any set (SHA-256)."""
        digest = hashlib.sha256()
        for name, clips in self.sets().items():
            for part in _parts(clips.codes):
                digest.update(f"{name}{part.shape}".encode())
                for chunk in part.chunks() if isinstance(part, LazyClips) else (part,):
                    digest.update(np.ascontiguousarray(chunk).data)
            digest.update(clips.labels.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def balance(self) -> dict[str, dict[str, int]]:
        """Return the number of clips of each class in each set."""
        return {
            name: {
                label: int(count)
                for label, count in zip(
                    self.classes,
                    np.bincount(clips.labels, minlength=len(self.classes)),
                    strict=True,
                )
            }
            for name, clips in self.sets().items()
        }

    def describe(self) -> str:
        """Return a few lines on size, balance and tracks of each set, for a terminal or a log.

        The majority baseline of a set is the accuracy of always answering its largest class.
        """
        words = self.encoding.words
        lines = [
            f"{self.name}: {self._how_many()} of {self._how_long()}{self.encoding.describe()}, "
            f"{self._about()}, {self.digest}"
        ]
        for name, counts in self.balance().items():
            clips = self.sets()[name]
            classes = ", ".join(f"{label} {count}" for label, count in counts.items())
            lines.append(
                f"  {name:5} {len(clips):5} {words.clip}s{self._wanted(name)}: {classes}; "
                f"{len(set(clips.tracks))} {words.track}s; "
                f"majority baseline {max(counts.values()) / len(clips):.3f}"
            )
        lines.append(f"  {self._sharing()}")
        return "\n".join(lines)

    def uneven(self) -> str:
        """Return which sets are far from what was asked in size or shares of classes, or "".

        Far is a size half as large again or half as small, and a class with half of what it has
        of all the clips.
        """
        total = np.bincount(self._labels(), minlength=len(self.classes)) / max(1, len(self))
        found, clip = [], self.encoding.words.clip
        for name, counts in self.balance().items():
            n, asked = sum(counts.values()), self._n_asked(name)
            parts = []
            if asked is not None and abs(n - asked) > max(2, asked / 2):
                parts.append(f"{n} {clip}s ({asked} asked)")
            for label, share in zip(self.classes, total, strict=True):
                if counts[label] < n * share / 2 - 1:
                    parts.append(
                        f"{counts[label]} of its {n} {clip}s of class {label!r} "
                        f"({n * share:.0f} in proportion)"
                    )
            if parts:
                found.append(f"{name} has {' and '.join(parts)}")
        return "; ".join(found)

    def _labels(self) -> NDArray[np.int64]:
        return np.concatenate([clips.labels for clips in self.sets().values()])

    def _n_asked(self, name: str) -> int | None:
        if not self.asked:
            return None
        return round(len(self) * dict(zip(("train", "val", "test"), self.asked, strict=True))[name])

    def _how_many(self) -> str:
        clips = f"{self.encoding.words.clip}s"
        if self.available is None:
            return f"{len(self)} {clips}"
        if self.available == len(self):
            return f"all {len(self)} {clips}"
        return f"{len(self)} of {self.available} {clips}, each"

    def _how_long(self) -> str:
        ragged = [c.codes.lengths for c in self.sets().values() if isinstance(c.codes, Ragged)]
        if not ragged:
            return ""
        lengths = np.concatenate(ragged)
        return f"{lengths.min()} to {lengths.max()} steps (median {np.median(lengths):.0f}), "

    def _wanted(self, name: str) -> str:
        asked = self._n_asked(name)
        return "" if asked in (None, len(self.sets()[name])) else f" ({asked} asked)"

    def _about(self) -> str:
        if len(self.classes) > 2:
            return f"{len(self.classes)} classes (recall and precision are means over them)"
        return f"positive class {self.classes[self.positive]}"

    def _sharing(self) -> str:
        tracks = [track for clips in self.sets().values() for track in set(clips.tracks)]
        shared, words = len(tracks) - len(set(tracks)), self.encoding.words
        if shared == 0:
            return f"no {words.track} is in more than one set"
        return f"sets share {words.track}s: a model can score by recognising {words.source}s"
