"""Training clips that are changed a little each time: never those that a model is evaluated on.

What is drawn follows from the seed of the trainer, the epoch and the place of a clip in it. So a
run repeats its bits, and one that was interrupted goes on with them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..layers.spec import Codes, Signal
from ..parts import Part
from ..ragged import AnyData, Data, Ragged

Array = NDArray[Any]
Streams = Callable[..., np.random.Generator]  # a stream of random numbers for each key
_CLIPS, _BATCHES = range(2)


class Augmentation(Part, ABC):
    """A random change of training clips: signals (T, D), or codes (T,) where ``fits_codes``."""

    fits_codes: bool = False

    @property
    @abstractmethod
    def is_on(self) -> bool:
        """Whether it changes anything."""

    def fit(self, encoding: Any) -> None:
        """Look at how the clips were made (None is unknown); ConfigError where they do not fit."""


class ClipAugmentation(Augmentation):
    """A change of one clip."""

    @abstractmethod
    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return a changed copy of a clip, of the same shape."""


@final
class Gain(ClipAugmentation):
    """Louder or softer, by up to so many decibels (0 or more), evenly drawn."""

    def __init__(self, decibels: float = 6.0) -> None:
        _check("gain.decibels", decibels)
        self.decibels = decibels

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.decibels > 0

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip times a factor."""
        return clip * 10 ** (rng.uniform(-self.decibels, self.decibels) / 20)


@final
class Shift(ClipAugmentation):
    """Earlier or later, by up to a share of the clip (0 to 1); what leaves at one end comes in.

    Takes codes too.
    """

    fits_codes = True

    def __init__(self, share: float = 0.1) -> None:
        _check("shift.share", share, most=1)
        self.share = share

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.share > 0

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip, rolled by whole steps."""
        most = int(self.share * len(clip))
        return np.roll(clip, int(rng.integers(-most, most + 1)), axis=0)


@final
class Noise(ClipAugmentation):
    """Gaussian noise of a standard deviation (0 or more), in units of the signal."""

    def __init__(self, stddev: float = 0.01) -> None:
        _check("noise.stddev", stddev)
        self.stddev = stddev

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.stddev > 0

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip and noise."""
        return clip + self.stddev * rng.standard_normal(clip.shape)


@final
class Polarity(ClipAugmentation):
    """Upside down, with a probability from 0 to 1."""

    def __init__(self, probability: float = 0.5) -> None:
        _check("polarity.probability", probability, most=1)
        self.probability = probability

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.probability > 0

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip or its negative."""
        return -clip if rng.random() < self.probability else clip


@final
class TimeMasking(ClipAugmentation):
    """Silence for up to a share of the clip, at any place (Park et al. 2019, SpecAugment).

    Parameters
    ----------
    share
        The longest stretch, 0 to 1 of the clip; its length is drawn evenly.
    stretches
        How many, 1 or more; they may overlap.
    """

    def __init__(self, share: float = 0.1, stretches: int = 1) -> None:
        _check("time_masking.share", share, most=1)
        if stretches < 1:
            raise ConfigError(f"augmentation.time_masking.stretches={stretches} must be 1 or more")
        self.share, self.stretches = share, stretches

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.share > 0

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip with zeros in places."""
        changed = clip.copy()
        for _ in range(self.stretches):
            n = int(rng.integers(int(self.share * len(clip)) + 1))
            begin = int(rng.integers(len(clip) - n + 1))
            changed[begin : begin + n] = 0
        return changed


@final
class SpectralTilt(ClipAugmentation):
    """Brighter or darker: a slope over the spectrum, at the same power.

    Parameters
    ----------
    decibels
        The steepest slope, in decibels per octave, 0 or more; the slope is drawn evenly.
    """

    def __init__(self, decibels: float = 3.0) -> None:
        _check("spectral_tilt.decibels", decibels)
        self.decibels, self._frame = decibels, 1

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.decibels > 0

    def fit(self, encoding: Any) -> None:
        """See that samples follow each other, frame by frame."""
        self._frame = getattr(encoding, "frame", 1)
        if getattr(encoding, "step", self._frame) != self._frame:
            raise ConfigError(
                "augmentation.spectral_tilt needs frames that do not overlap: "
                "set dataset.hop=null, or augmentation.spectral_tilt.decibels=0"
            )

    def change(self, clip: Array, rng: np.random.Generator) -> Array:
        """Return the clip after a filter in the frequency domain; the mean stays."""
        slope = rng.uniform(-self.decibels, self.decibels)
        samples = clip.reshape(len(clip) * self._frame, -1)  # a step is a frame of all channels
        mean = samples.mean(axis=0)
        spectrum = np.fft.rfft(samples - mean, axis=0)
        octaves = np.log2(np.maximum(1, np.arange(len(spectrum))))
        tilted = np.fft.irfft(
            spectrum * 10 ** (slope * octaves / 20)[:, None], len(samples), axis=0
        )
        before, after = (float(np.square(x).sum()) for x in (samples - mean, tilted))
        scale = np.sqrt(before / after) if after > 0 else 1.0
        changed: Array = (tilted * scale + mean).reshape(clip.shape)
        return changed


@final
class Mixup(Augmentation):
    """Each clip mixed with another of its batch, and its target too (Zhang et al. 2018).

    Parameters
    ----------
    alpha
        The share of the clip in each batch comes from a Beta distribution (alpha, alpha); 0 or
        more.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        _check("mixup.alpha", alpha)
        self.alpha = alpha

    @property
    def is_on(self) -> bool:
        """See `Augmentation.is_on`."""
        return self.alpha > 0

    def mix(self, rng: np.random.Generator, *arrays: Array) -> tuple[Array, ...]:
        """Return arrays (N, ...), all mixed with the same partners in the same shares."""
        share, partner = rng.beta(self.alpha, self.alpha), rng.permutation(len(arrays[0]))
        return tuple((share * a + (1 - share) * a[partner]).astype(a.dtype) for a in arrays)


@final
class Augmenter:
    """The augmentations of a run that are on, in order; mixup comes last.

    Parameters
    ----------
    augmentations
        By name, as they stand in a configuration; what is None or off is left out.
    """

    def __init__(self, augmentations: Mapping[str, Augmentation | None] | None) -> None:
        given = (augmentations or {}).items()
        self._named = {name: a for name, a in given if a is not None and a.is_on}
        self._clips = [a for a in self._named.values() if isinstance(a, ClipAugmentation)]
        self._batches = [a for a in self._named.values() if isinstance(a, Mixup)]

    def __bool__(self) -> bool:
        return bool(self._named)

    def fit(self, inputs: Codes | Signal | None, encoding: Any) -> None:
        """Raise ConfigError where an augmentation does not go with such inputs."""
        for name, augmentation in self._named.items():
            if isinstance(inputs, Codes) and not augmentation.fits_codes:
                raise ConfigError(
                    f"augmentation.{name} changes signals, and the model reads codes: "
                    f"set dataset.encoding=raw, or augmentation.{name}=null"
                )
            if inputs is not None and inputs.n_steps is None and isinstance(augmentation, Mixup):
                raise ConfigError(
                    f"augmentation.{name} mixes clips of one length, and these have any: "
                    f"set augmentation.{name}=null"
                )
            augmentation.fit(encoding)

    def changed(
        self,
        data: AnyData,
        rows: NDArray[np.int64],
        others: Sequence[Array],
        place: tuple[int, int],
        streams: Streams,
    ) -> tuple[Data, Sequence[Array]]:
        """Return the clips of a batch after all changes, and what is mixed along with them.

        Parameters
        ----------
        data
            The training set, which stays as it is.
        rows : (n,)
            Positions of the clips of the batch.
        others
            Arrays (n, ...) such as targets.
        place
            The epoch, and the number of clips that came before the batch in it.
        streams
            Gives the stream of random numbers for some whole numbers.
        """
        epoch, first = place

        def change(clip: Array, i: int) -> Array:
            rng = streams(_CLIPS, epoch, first + i)
            for augmentation in self._clips:
                clip = augmentation.change(clip, rng)
            return clip.astype(dtype, copy=False)

        if isinstance(data, Ragged):
            dtype = data.values.dtype
            return Ragged.of([change(data[n], i) for i, n in enumerate(rows)]), others
        dtype = data.dtype
        clips = np.stack([change(data[n], i) for i, n in enumerate(rows)])
        for mixup in self._batches:
            clips, *others = mixup.mix(streams(_BATCHES, epoch, first), clips, *others)
        return np.ascontiguousarray(clips), others


def _check(place: str, value: float, most: float = np.inf) -> None:
    if not 0 <= value <= most or value == np.inf:
        bound = f"from 0 (off) to {most:g}" if most < np.inf else "0 (off) or more"
        raise ConfigError(f"augmentation.{place}={value} must be {bound}")
