"""How a signal becomes symbols: rate, duration, number of levels and the quantiser."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError


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
RESAMPLERS = ("soxr", "decimate")


@dataclass(frozen=True)
class Encoding:
    """Everything that turns a recording into clips of symbols; it travels with a trained model.

    Parameters
    ----------
    levels : int
        Number of symbols, 2 to 256.
    method : {"uniform", "ceil", "mulaw"}
        Quantiser of a signal x in [0, 1]. `uniform`: equal bins, min(floor(levels x), levels - 1).
        `ceil`: ceil((levels - 1) x), where level 0 is exact zero only. `mulaw`: the mu-law
        companding of 2x - 1 in its continuous form (ITU-T G.711) with mu = levels - 1, then
        equal bins.
    rate : float or None
        Samples per second after resampling; None keeps the rate of the files.
    duration : float
        Length of a clip in seconds.
    resampler : {"soxr", "decimate"}
        `soxr`: band-limited, very high quality. `decimate`: keep every int(file rate / rate)-th
        sample without a filter; it aliases, and the real rate is off when the ratio is no integer.

    Raises
    ------
    ConfigError
        If a value is out of range or unknown.
    """

    levels: int = 16
    method: str = "uniform"
    rate: float | None = 10_000.0
    duration: float = 1.0
    resampler: str = "soxr"

    def __post_init__(self) -> None:
        check_integer("dataset.levels", self.levels, low=2, high=256)
        check_choice("dataset.encoding", self.method, tuple(METHODS))
        check_choice("dataset.resampler", self.resampler, RESAMPLERS)
        check_positive("dataset.duration", self.duration)
        if self.rate is not None:
            check_positive("dataset.rate", self.rate)
            # 10000 and 10000.0 are one encoding: equal, hashed and stored alike.
            object.__setattr__(self, "rate", float(self.rate))
            if self.n_steps < 1:
                raise ConfigError(
                    f"dataset.duration={self.duration} s at dataset.rate={self.rate:g} is less "
                    f"than one sample: make it {1 / self.rate:g} or more"
                )
        object.__setattr__(self, "duration", float(self.duration))

    @property
    def n_steps(self) -> int:
        """Number of time steps T of a clip, round(duration * rate).

        Raises
        ------
        ConfigError
            If `rate` is None, so that only a file can tell.
        """
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
        return asdict(self)

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
