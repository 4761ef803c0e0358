"""The abstract data set: from labelled recordings to splits of encoded clips."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SkippedFileWarning
from ..lazy import LazyClips
from ..ragged import Ragged
from ..runtime.places import given_path
from . import copies
from .audio import Prepared, encode_signal
from .cache import prepare
from .clips import Clips
from .encode import Encoding
from .inputs import InputEncoding
from .labelled import LabelledData
from .names import Name
from .raw import by_training
from .reader import warn
from .repeated import Repeated

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


class Dataset(LabelledData):
    """Labelled recordings that become encoded clips, split for training.

    A subclass says its `name`, its `classes` and its `sources`; the rest is shared.

    Parameters
    ----------
    n_clips, split, sizes, stratify, folds, fold, positive
        See `LabelledData`.
    duration : float or None
        Length of a clip in seconds; None takes each recording whole, as one clip.
    rate : float or None
        Samples per second after resampling; None keeps the rate of the files.
    resampler, levels, encoding, normalise, frame, hop, channels, n_mels, fmin, fmax
        See `Encoding`, where `encoding` is called `method`.
    cache_dir : str, Path or None
        Folder for prepared clips; None does without.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.
    """

    def __init__(
        self,
        *,
        n_clips: int | None = 256,
        duration: float | None = 1.0,
        rate: float | None = 10_000,
        resampler: str = "soxr",
        levels: int = 16,
        encoding: str = "uniform",
        normalise: str = "recording",
        frame: int = 1,
        hop: int | None = None,
        channels: int | None = 1,
        n_mels: int = 40,
        fmin: float = 0.0,
        fmax: float | None = None,
        split: str = "track",
        sizes: Sequence[float] = (2, 1, 1),
        stratify: bool = True,
        folds: int | None = None,
        fold: int = 0,
        positive: Name | None = None,
        cache_dir: str | Path | None = "runs/cache",
    ) -> None:
        super().__init__(
            n_clips=n_clips,
            split=split,
            sizes=sizes,
            stratify=stratify,
            folds=folds,
            fold=fold,
            positive=positive,
        )
        self.encoding = Encoding(
            levels=levels,
            method=encoding,
            rate=rate,
            duration=duration,
            resampler=resampler,
            normalise=normalise,
            frame=frame,
            hop=hop,
            channels=channels,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
        )
        self.cache_dir = None if cache_dir is None else given_path(cache_dir)

    @abstractmethod
    def sources(self) -> list[Recording]:
        """List the recordings, always in the same order.

        Raises
        ------
        DataError
            If there is nothing to list.
        """

    def pool(self) -> tuple[Clips, Encoding]:
        """Encode the recordings that can be used; the encoding tells their rate and channels."""
        recordings = self.sources()
        used: list[tuple[Recording, Prepared]] = []
        for recording, prepared in zip(recordings, self._prepared(recordings), strict=True):
            if isinstance(prepared, DataError):
                warnings.warn(f"{recording.name} {prepared}", SkippedFileWarning, stacklevel=3)
            else:
                used.append((recording, prepared))
                warn(recording.name, prepared.remarks, stacklevel=3)
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
        if encoding.is_signal:
            encoding = replace(encoding, channels=_common_channels(used, encoding.width))
        counts = [len(prepared.codes) for _, prepared in used]
        codes = [prepared.codes for _, prepared in used]
        which = np.repeat(np.arange(len(used), dtype=np.int32), counts)
        clips = Clips(
            LazyClips(codes) if encoding.duration else Ragged.of([clip for (clip,) in codes]),
            np.array([recording.label for recording, _ in used], np.int64)[which],
            Repeated([recording.name for recording, _ in used], which),
            Repeated(tracks, which),
            np.concatenate([prepared.offsets for _, prepared in used]),
        )
        self._check_classes(clips, "check its recordings")
        return clips, encoding

    def adapt(
        self, pool: Clips, train: NDArray[np.int64], encoding: InputEncoding
    ) -> tuple[Clips, InputEncoding]:
        """Normalise signals by the statistics of the training set, where that was asked for."""
        if not isinstance(encoding, Encoding) or encoding.normalise != "training":
            return pool, encoding
        signals, mean, std = by_training(pool.codes, train, encoding.n_statistics or 1)
        return replace(pool, codes=signals), replace(encoding, mean=mean, std=std)

    def _tracks(self, used: list[tuple[Recording, Prepared]]) -> list[str]:
        """Return the group of each recording; those with the same clips are of one group."""
        recordings = [recording for recording, _ in used]
        codes = [prepared.codes for _, prepared in used]
        digests = [prepared.digest or copies.digest(prepared.codes) for _, prepared in used]
        same = copies.find(codes, digests)
        for line in copies.tell([(r.name, self.classes[r.label]) for r in recordings], same):
            warnings.warn(line, stacklevel=4)
        return copies.join([r.track or r.name for r in recordings], same)

    def _prepared(self, recordings: list[Recording]) -> list[Prepared | DataError]:
        """Return the clips of each recording, or why it cannot be used."""
        paths = [r.source for r in recordings if isinstance(r.source, Path)]
        of_files = iter(prepare(paths, self.encoding, self.cache_dir, self.name))
        return [
            next(of_files) if isinstance(r.source, Path) else self._encode(r.source)
            for r in recordings
        ]

    def _encode(self, source: Callable[[], Signal]) -> Prepared | DataError:
        try:
            return encode_signal(*source(), self.encoding)
        except DataError as error:
            return error


def _common_channels(used: list[tuple[Recording, Prepared]], width: int) -> int:
    channels = {
        int(prepared.codes.shape[2]) // width: recording.name for recording, prepared in used
    }
    if len(channels) > 1:
        seen = ", ".join(f"{n} ({name})" for n, name in sorted(channels.items()))
        raise DataError(
            f"dataset.channels=null, but the files have different numbers of channels, {seen}: "
            "set dataset.channels=1 for their mean"
        )
    return channels.popitem()[0]
