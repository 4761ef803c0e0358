"""How a recording becomes symbols, samples or mel bands: rate, duration, quantiser, frames."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..layers.spec import Codes, Signal
from .inputs import RECORDINGS, InputEncoding, Words


def _uniform(x: NDArray[np.floating], levels: int) -> NDArray[np.floating]:
    steps: NDArray[np.floating] = np.minimum(np.floor(levels * x), levels - 1)
    return steps


def _ceil(x: NDArray[np.floating], levels: int) -> NDArray[np.floating]:
    steps: NDArray[np.floating] = np.ceil((levels - 1) * x)
    return steps


def _mulaw(x: NDArray[np.floating], levels: int) -> NDArray[np.floating]:
    mu = levels - 1
    y = 2 * x - 1
    companded = np.sign(y) * np.log1p(mu * np.abs(y)) / math.log1p(mu)
    # At x = 0 the quotient of the logarithms can round to just below -1.
    return _uniform((np.maximum(companded, -1) + 1) / 2, levels)


METHODS: dict[str, Callable[[NDArray[np.floating], int], NDArray[np.floating]]] = {
    "uniform": _uniform,
    "ceil": _ceil,
    "mulaw": _mulaw,
}
RAW = "raw"
LOG_MEL = "log_mel"
MOST_CHANNELS = 1024  # as libsndfile
_MOST_MELS, _MOST_WINDOW = 512, 1 << 16  # a filter bank of 134 MB
RESAMPLERS = ("soxr", "decimate")
NORMALISE = ("recording", "training")
_OF_MEL = {"n_mels": 40, "fmin": 0.0, "fmax": None}  # options of log_mel alone, with their defaults
_OF_SIGNALS = {  # options that symbols do not have
    "normalise": "recording",
    "frame": 1,
    "hop": None,
    "channels": 1,
    "mean": (),
    "std": (),
}


@dataclass(frozen=True)
class Encoding(InputEncoding):
    """Everything that turns a recording into clips; it travels with a trained model.

    Parameters
    ----------
    levels : int
        Number of symbols, 2 to 256.
    method : {"uniform", "ceil", "mulaw", "raw", "log_mel"}
        Quantiser of a signal x in [0, 1]. `uniform`: equal bins, min(floor(levels x), levels - 1).
        `ceil`: ceil((levels - 1) x), where level 0 is exact zero only. `mulaw`: the mu-law
        companding of 2x - 1 in its continuous form (ITU-T G.711) with mu = levels - 1, then
        equal bins. `raw`: no symbols but the samples themselves, float32. `log_mel`: the power in
        bands of the mel scale, in decibels, see `nnjit.datasets.mel`.
    rate : float or None
        Samples per second after resampling; None keeps the rate of the files.
    duration : float or None
        Length of a clip in seconds; None takes each recording whole.
    resampler : {"soxr", "decimate"}
        `soxr`: band-limited, very high quality. `decimate`: keep every int(file rate / rate)-th
        sample without a filter; it aliases, and the real rate is off when the ratio is no integer.
    normalise : {"recording", "training"}
        `raw`, `log_mel`: each channel, or each band of each channel, gets mean 0 and standard
        deviation 1, by the statistics of its own recording, or by those of the clips of the
        training set.
    frame, hop : int, int or None
        `raw`, `log_mel`: a step is a vector of `frame` samples, or their bands, `hop` samples
        after the one before; None is `frame`, so that frames lie side by side. A remainder
        shorter than a frame is dropped.
    channels : int or None
        `raw`, `log_mel`: 1 averages the channels of a recording. More are kept, and a recording
        with another number is refused; None keeps as many as the recordings have.
    n_mels : int
        `log_mel`: number of bands, 1 to 512.
    fmin, fmax : float, float or None
        `log_mel`: Hz where the lowest band begins and the highest ends; None is half the rate.
    mean, std : tuple of float
        Statistics of the training set, of each channel or of each band and channel; empty until
        they are known.

    Raises
    ------
    ConfigError
        If a value is out of range or unknown.
    """

    words: ClassVar[Words] = RECORDINGS

    levels: int = 16
    method: str = "uniform"
    rate: float | None = 10_000.0
    duration: float | None = 1.0
    resampler: str = "soxr"
    normalise: str = "recording"
    frame: int = 1
    hop: int | None = None
    channels: int | None = 1
    n_mels: int = 40
    fmin: float = 0.0
    fmax: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_integer("dataset.levels", self.levels, low=2, high=256)
        check_choice("dataset.encoding", self.method, (*METHODS, RAW, LOG_MEL))
        check_choice("dataset.resampler", self.resampler, RESAMPLERS)
        if self.duration is not None:
            check_positive("dataset.duration", self.duration)
            object.__setattr__(self, "duration", float(self.duration))
        check_choice("dataset.normalise", self.normalise, NORMALISE)
        check_integer("dataset.frame", self.frame, low=1)
        if self.hop is not None:
            check_integer("dataset.hop", self.hop, low=1)
        if self.channels is not None:
            check_integer("dataset.channels", self.channels, low=1, high=MOST_CHANNELS)
        self._check_signals()
        self._check_mel()
        if self.rate is not None:
            check_positive("dataset.rate", self.rate)
            # 10000 and 10000.0 are one encoding: equal, hashed and stored alike.
            object.__setattr__(self, "rate", float(self.rate))
            if self.n_samples is not None and self.n_samples < self.frame:
                least = "sample" if self.frame == 1 else f"frame of {self.frame} samples"
                raise ConfigError(
                    f"dataset.duration={self.duration} s at dataset.rate={self.rate:g} is less "
                    f"than one {least}: make it {self.frame / self.rate:g} or more"
                )

    def _check_signals(self) -> None:
        """Raise ConfigError for what symbols do not have, or statistics that do not fit."""
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not self.is_signal:
            self._refuse(_OF_SIGNALS, f"where a step is one symbol: set dataset.encoding={RAW}")
        if (self.mean or self.std) and not are_statistics(self.mean, self.std, self.n_statistics):
            raise ConfigError(
                f"mean={self.mean} and std={self.std} do not fit {self.channels} channels"
            )

    def _check_mel(self) -> None:
        """Raise ConfigError for options of mel bands that cannot work, or without them."""
        if self.method != LOG_MEL:
            self._refuse(_OF_MEL, f"which has no bands: set dataset.encoding={LOG_MEL}")
            return
        check_integer("dataset.n_mels", self.n_mels, low=1, high=_MOST_MELS)
        if not 2 <= self.frame <= _MOST_WINDOW:
            raise ConfigError(
                f"dataset.frame={self.frame} is no window for dataset.encoding={LOG_MEL}: set it "
                f"to the samples of one, 2 to {_MOST_WINDOW}, such as 256"
            )
        if self.fmin:
            check_positive("dataset.fmin", self.fmin)
        if self.fmax is not None:
            check_positive("dataset.fmax", self.fmax)
        highest = self.rate / 2 if self.rate else math.inf
        if not self.fmin < (highest if self.fmax is None else self.fmax) <= highest:
            shown = "null" if self.fmax is None else f"{self.fmax:g}"
            raise ConfigError(
                f"dataset.fmin={self.fmin:g} and dataset.fmax={shown} span no bands: let fmin be "
                f"less than fmax, and fmax at most half the rate, {highest:g} Hz"
            )

    def _refuse(self, options: Mapping[str, Any], reason: str) -> None:
        """Raise ConfigError where one of these options is not at its default."""
        for key, default in options.items():
            if (value := getattr(self, key)) != default:
                shown = "null" if value is None else value
                raise ConfigError(
                    f"dataset.{key}={shown} does not go with dataset.encoding={self.method}, "
                    f"{reason}"
                )

    @property
    def is_signal(self) -> bool:
        """Whether clips hold numbers, samples or mel bands, instead of symbols."""
        return self.method in (RAW, LOG_MEL)

    @property
    def width(self) -> int:
        """Number of values of a step for each channel."""
        return self.n_mels if self.method == LOG_MEL else self.frame

    @property
    def n_statistics(self) -> int | None:
        """Number of values that are normalised each by itself; None where a file must tell."""
        if self.method == LOG_MEL and self.channels is not None:
            return self.n_mels * self.channels
        return self.channels

    @property
    def inputs(self) -> Codes | Signal:
        """What a model reads: codes (N, T), or signals (N, T, width * channels).

        Raises
        ------
        ConfigError
            If `channels` is None, or `rate` of clips with a duration: only a file can tell.
        """
        if not self.is_signal:
            return Codes(self.n_steps, self.levels)
        if self.channels is None:
            raise ConfigError("the channels are known once a file is read: set dataset.channels")
        return Signal(self.n_steps, self.width * self.channels)

    @property
    def step_in_figures(self) -> tuple[float, str]:
        """Milliseconds of a step; steps where the rate is not known yet."""
        return (1e3 * self.step / self.rate, "milliseconds") if self.rate else (1.0, "steps")

    @property
    def step(self) -> int:
        """Number of samples from one time step to the next."""
        return self.hop or self.frame

    @property
    def n_steps(self) -> int | None:
        """Number of time steps T of a clip: its samples, or its frames; None where it varies.

        Raises
        ------
        ConfigError
            As `n_samples`.
        """
        n_samples = self.n_samples
        return None if n_samples is None else (n_samples - self.frame) // self.step + 1

    @property
    def n_samples(self) -> int | None:
        """Number of samples of a clip, round(duration * rate); None for whole recordings.

        Raises
        ------
        ConfigError
            If `rate` is None but `duration` is not: only a file can tell.
        """
        if self.duration is None:
            return None
        if self.rate is None:
            raise ConfigError("the number of steps is known once a file is read: set dataset.rate")
        return round(self.duration * self.rate)

    def quantise(self, x: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Map a signal to symbols.

        Parameters
        ----------
        x : array of any shape
            Signal in [0, 1].

        Returns
        -------
        array of uint8, same shape
            Symbols 0 to levels - 1.

        Raises
        ------
        DataError
            If a value is NaN or lies outside [0, 1].

        Examples
        --------
        >>> Encoding(levels=4).quantise(np.array([0.0, 0.3, 1.0]))
        array([0, 1, 3], dtype=uint8)
        """
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(
                f"the signal spans {x.min():g} to {x.max():g}, expected [0, 1]: normalise it first"
            )
        return METHODS[self.method](x, self.levels).astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values, for a model file or a tracker."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        absent = (
            {} if self.method == LOG_MEL else _OF_MEL if self.is_signal else _OF_SIGNALS | _OF_MEL
        )
        return {key: value for key, value in values.items() if key not in absent}

    def describe(self) -> str:
        """Return what a clip is, in a few words."""
        what = f"{self.levels} levels ({self.method})"
        if self.is_signal:
            mel = f"{self.n_mels} log-mel bands of " * (self.method == LOG_MEL)
            what = f"{mel}{self.channels} channel(s) of samples, normalised by {self.normalise}"
            if self.frame > 1 or self.step > 1:
                what = f"frames of {self.frame} samples, {self.step} apart, {what}"
        if self.duration is None:
            return f"whole recordings at {self.rate:g} Hz, {what}"
        return f"{self.n_steps} steps ({self.duration:g} s at {self.rate:g} Hz), {what}"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Encoding":
        """Build an encoding from the result of `to_dict`.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown encoding key {unknown[0]!r}: use {', '.join(known)}")
        return cls(**values)


def are_statistics(mean: Sequence[float], std: Sequence[float], n: int | None) -> bool:
    """Tell whether these are a mean and a standard deviation for each of n features."""
    return (
        len(mean) == len(std) == n
        and all(map(math.isfinite, mean))
        and all(0 < value < math.inf for value in std)
    )


def check_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{key}={value} is unknown: use {', '.join(choices)}")


def check_integer(key: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise ConfigError unless `value` is an integer in [low, high]."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        span = f"from {low} to {high}" if high is not None else f"of {low} or more"
        raise ConfigError(f"{key}={value} does not work: set an integer {span}")


def check_positive(key: str, value: Any) -> None:
    """Raise ConfigError unless `value` is a finite number above 0."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ConfigError(f"{key}={value} does not work: set a finite number above 0")
