"""Synthetic plucked strings of two authors, as many as wanted."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .base import Dataset, Recording, Signal
from .encode import check_integer


@dataclass(frozen=True)
class Style:
    """How an author plays.

    Attributes
    ----------
    notes : tuple of int
        Pitches to choose from, semitones above the low E string (82.4 Hz).
    damping : float
        What is left of a string's energy after one period, below 1.
    softness : int
        Length of the moving average over the pluck; 1 is the brightest.
    notes_per_second : float
        Mean pace.
    """

    notes: tuple[int, ...]
    damping: float
    softness: int
    notes_per_second: float


STYLES = {
    "nylon": Style((0, 3, 5, 7, 10, 12, 15, 17), damping=0.992, softness=6, notes_per_second=3.0),
    "steel": Style((0, 2, 4, 7, 9, 12, 14, 16), damping=0.998, softness=1, notes_per_second=4.0),
}


class Karplus(Dataset):
    """Karplus-Strong strings of two made-up authors, who differ in scale, damping and pluck.

    Nothing is downloaded or cached; there are exactly `n_clips` clips (rounded up to whole,
    equal tracks), half of each author.

    Parameters
    ----------
    n_tracks : int
        Recordings of each author.
    data_seed : int
        Seed of the music; the seed given to `load` only draws and splits.
    **options
        Options of `Dataset`; `n_clips`, `rate` and `duration` must be numbers.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.

    References
    ----------
    Karplus and Strong, "Digital Synthesis of Plucked-String and Drum Timbres", Computer Music
    Journal 7(2), 1983.
    """

    name: ClassVar[str] = "karplus"

    def __init__(self, n_tracks: int = 8, data_seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        check_integer("dataset.n_tracks", n_tracks, low=1, high=1 << 20)
        check_integer("dataset.data_seed", data_seed, low=0)
        encoding = self.encoding
        needed = {"n_clips": self.n_clips, "rate": encoding.rate, "duration": encoding.duration}
        for key, value in needed.items():
            if value is None:
                raise ConfigError(f"dataset.{key}=null leaves {self.name} endless: set a number")
        self.n_tracks, self.data_seed = n_tracks, data_seed

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        return tuple(STYLES)

    def sources(self) -> list[Recording]:
        """List the recordings, which are made when they are asked for."""
        n_clips, rate = self.n_clips or 0, self.encoding.rate or 0.0
        clips_per_track = math.ceil(n_clips / (len(STYLES) * self.n_tracks))
        n_samples = clips_per_track * (self.encoding.n_samples or 0)
        return [
            Recording(
                f"{author}/{track:03}",
                label,
                partial(_play, style, rate, n_samples, (self.data_seed, label, track)),
            )
            for label, (author, style) in enumerate(STYLES.items())
            for track in range(self.n_tracks)
        ]


def _play(style: Style, rate: float, n_samples: int, seed: tuple[int, ...]) -> Signal:
    rng = np.random.default_rng(seed)
    return play(style, rate, n_samples, rng), rate


def play(
    style: Style, rate: float, n_samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Play notes of a style one after the other, each until the next.

    Parameters
    ----------
    style : Style
        The author.
    rate : float
        Samples per second.
    n_samples : int
        Length T of the recording.
    rng : numpy.random.Generator
        Chooses notes, times, loudness and plucks.

    Returns
    -------
    array of float64, shape (T,)
        Samples in about [-1, 1].
    """
    signal = np.empty(n_samples)
    start = 0
    while start < n_samples:
        frequency = 82.4069 * 2 ** (rng.choice(style.notes) / 12)
        period = max(2, round(rate / frequency))
        length = max(1, round(rate / style.notes_per_second * rng.uniform(0.5, 1.5)))
        length = min(length, n_samples - start)
        note = rng.uniform(0.5, 1.0) * pluck(period, length, style, rng)
        signal[start : start + length] = note
        start += length
    return signal


def pluck(period: int, length: int, style: Style, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one note: noise that runs round a delay line through a two-point average.

    Parameters
    ----------
    period : int
        Length of the delay line in samples.
    length : int
        Length T of the note in samples.
    style : Style
        The author.
    rng : numpy.random.Generator
        Fills the delay line.

    Returns
    -------
    array of float64, shape (T,)
        y[t] = damping (y[t - period] + y[t - period - 1]) / 2 after the first period.
    """
    noise = rng.uniform(-1, 1, period + style.softness - 1)
    periods = np.empty((math.ceil(length / period), period))
    periods[0] = np.convolve(noise, np.full(style.softness, 1 / style.softness), mode="valid")
    before = 0.0  # the last sample of the period before the one that is read
    for last, this in pairwise(periods):
        this[0] = last[0] + before
        np.add(last[1:], last[:-1], out=this[1:])
        this *= style.damping / 2
        before = last[-1]
    return periods.ravel()[:length]
