"""Initialisers: ``f(shape, rng) -> float64 array``; shape is (..., fan_in, fan_out) of weights."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Initializer = Callable[[tuple[int, ...], np.random.Generator], NDArray[np.float64]]
_MOST_AT_ONCE = 1 << 22  # numbers drawn in one call: signals wait for its end


def _drawn(
    draw: Callable[[int], NDArray[np.float64]], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return an array filled by calls of ``draw(n)``; the values do not depend on the cuts."""
    values = np.empty(shape)
    flat = values.reshape(-1)
    for begin in range(0, flat.size, _MOST_AT_ONCE):
        block = flat[begin : begin + _MOST_AT_ONCE]
        block[...] = draw(block.size)
    return values


def _normal(
    deviation: float, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    return _drawn(lambda n: rng.normal(0.0, deviation, n), shape)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return fan_in and fan_out; as in Keras, axes before the last two count with both."""
    if len(shape) < 2:
        return shape[0], 0
    field = prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All 0."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All 1."""
    return np.ones(shape)


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 0.05**2)."""
    return _normal(0.05, shape, rng)


def xavier(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return _normal(np.sqrt(2.0 / sum(_fans(shape))), shape, rng)


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """U(-a, a) with a**2 = 6 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""
    bound = np.sqrt(6.0 / sum(_fans(shape)))
    return _drawn(lambda n: rng.uniform(-bound, bound, n), shape)


def he(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 2 / fan_in) (He et al. 2015)."""
    return _normal(np.sqrt(2.0 / _fans(shape)[0]), shape, rng)


def lecun(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 1 / fan_in) (LeCun et al. 1998)."""
    return _normal(np.sqrt(1.0 / _fans(shape)[0]), shape, rng)


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Orthonormal rows or columns: QR of a normal matrix, signs fixed (Saxe et al. 2014)."""
    rows, columns = prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(_normal(1.0, (max(rows, columns), min(rows, columns)), rng))
    q = q * np.sign(np.diag(r))
    return (q if rows >= columns else q.T).reshape(shape)


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (zeros, ones, normal, xavier, xavier_uniform, he, lecun, orthogonal)
}


def get(name: str) -> Initializer:
    """Return an initialiser by its name; ConfigError if there is none of that name."""
    if name not in INITIALIZERS:
        known = ", ".join(INITIALIZERS)
        raise ConfigError(f"initializer '{name}' does not exist: choose from {known}")
    return INITIALIZERS[name]


def fill(name: str, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> NDArray[Any]:
    """Return a new array from the initialiser of that name, in ``dtype``."""
    # Optimisers and kernels need C order; a transposed matrix would be copied at each step.
    return np.ascontiguousarray(get(name)(shape, rng), dtype)
