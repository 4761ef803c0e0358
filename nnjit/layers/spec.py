"""The kinds of data between layers. Inside layers a batch of N is cut into tiles of 16 lanes.

=========== ===================== ============================= =======
kind        outside layers        inside layers                 dtype
=========== ===================== ============================= =======
`Codes`     (N, T), below V       (tiles, T, LANES)             uint8
`FlatCodes` (N, T), below V       (tiles, T, LANES)             uint8
`Signal`    (N, T, D)             (tiles, T, D, LANES)          float
`Vector`    (N, D)                (tiles, D, LANES)             float
=========== ===================== ============================= =======

``n_steps``, T, is None if clips may have any length: then `Recurrent` takes their lengths.
Codes stand for one-hot vectors (N, T, V), flat codes for (N, T V); these are never formed.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import final

from ..errors import ConfigError


@final
@dataclass(frozen=True)
class Codes:
    """Quantised signals: ``n_steps`` symbols below ``levels``."""

    n_steps: int | None
    levels: int

    def __post_init__(self) -> None:
        _check_steps(self.n_steps)
        if not isinstance(self.levels, Integral) or not 2 <= self.levels <= 256:
            raise ConfigError(f"levels={self.levels} must be from 2 to 256: codes are bytes")

    @property
    def n_features(self) -> int:
        """The length of the vector that a symbol stands for."""
        return self.levels

    def __str__(self) -> str:
        return f"(N, {self.n_steps or 'T'}, {self.levels}) codes"


@final
@dataclass(frozen=True)
class FlatCodes:
    """Quantised signals after Flatten: in every ``levels`` features, one is 1 and the rest 0."""

    n_steps: int
    levels: int

    @property
    def n_features(self) -> int:
        """The length of the vector of zeros and ones for which the codes stand."""
        return self.n_steps * self.levels

    def __str__(self) -> str:
        return f"(N, {self.n_features}) codes"


@final
@dataclass(frozen=True)
class Signal:
    """Sequences of vectors."""

    n_steps: int | None
    n_features: int

    def __post_init__(self) -> None:
        _check_steps(self.n_steps)
        _check_positive("n_features", self.n_features)

    def __str__(self) -> str:
        return f"(N, {self.n_steps or 'T'}, {self.n_features})"


@final
@dataclass(frozen=True)
class Vector:
    """One vector for each member of the batch."""

    n_features: int

    def __str__(self) -> str:
        return f"(N, {self.n_features})"


def _check_steps(n_steps: int | None) -> None:
    if n_steps is not None:
        _check_positive("n_steps", n_steps)


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}={value} must be a whole number, 1 or more")


Spec = Codes | FlatCodes | Signal | Vector
