"""Activations: elementwise functions of logits ``z``, and softmax over the units.

Arrays are (..., units, n): units are the second last axis, a batch of n the last.
``backward(dy, y, z)`` is the gradient of the loss with respect to ``z``.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, short
from .options import check_options

Array = NDArray[Any]


class Activation(ABC):
    """A function of logits and its derivative."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, z: Array) -> Array:
        """Return ``y = f(z)``, of the shape and dtype of ``z``."""

    @abstractmethod
    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return the gradient with respect to ``z``, given ``dy`` with respect to ``y``."""

    def config(self) -> dict[str, Any]:
        """Return the name and the options, for `get`."""
        return {"name": self.name, **vars(self)}


@final
class Identity(Activation):
    """``y = z``."""

    name = "identity"

    def forward(self, z: Array) -> Array:
        """Return ``z``."""
        return z

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy``."""
        return dy


@final
class ReLU(Activation):
    """``y = max(z, 0)``."""

    name = "relu"

    def forward(self, z: Array) -> Array:
        """Return the positive part."""
        return np.maximum(z, 0)

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy`` where z is positive, else 0."""
        return dy * (z > 0)


@final
class LeakyReLU(Activation):
    """``y = z`` where positive, else ``slope * z``."""

    name = "leaky_relu"

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, z: Array) -> Array:
        """Return z, the negative part scaled."""
        return np.where(z > 0, z, self.slope * z)

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy``, scaled where z is not positive."""
        return np.where(z > 0, dy, self.slope * dy)


@final
class ELU(Activation):
    """``y = z`` where positive, else ``alpha * (exp(z) - 1)`` (Clevert et al. 2016)."""

    name = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, z: Array) -> Array:
        """Return z where it is positive, else a value from ``-alpha`` to 0."""
        return np.where(z > 0, z, self.alpha * np.expm1(np.minimum(z, 0)))

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy``, times ``y + alpha`` where z is not positive."""
        return np.where(z > 0, dy, dy * (y + self.alpha))


@final
class Sigmoid(Activation):
    """``y = 1 / (1 + exp(-z))``, computed with tanh, so that it cannot overflow."""

    name = "sigmoid"

    def forward(self, z: Array) -> Array:
        """Return values between 0 and 1."""
        return 0.5 * np.tanh(0.5 * z) + 0.5

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy * y * (1 - y)``."""
        dz: Array = dy * y * (1 - y)
        return dz


@final
class Tanh(Activation):
    """``y = tanh(z)``."""

    name = "tanh"

    def forward(self, z: Array) -> Array:
        """Return values between -1 and 1."""
        return np.tanh(z)

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``dy * (1 - y**2)``."""
        dz: Array = dy * (1 - y * y)
        return dz


@final
class Softmax(Activation):
    """``y = exp(z / temperature)``, divided by its sum over the units (the second last axis)."""

    name = "softmax"

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ConfigError(
                f"softmax temperature={temperature} must be above 0: the default is 1"
            )
        self.temperature = temperature

    def log(self, z: Array) -> Array:
        """Return ``log(y)``, stable for any z."""
        z = z / self.temperature
        z = z - z.max(axis=-2, keepdims=True)
        log_y: Array = z - np.log(np.exp(z).sum(axis=-2, keepdims=True))
        return log_y

    def forward(self, z: Array) -> Array:
        """Return probabilities that sum to 1."""
        return np.exp(self.log(z))

    def backward(self, dy: Array, y: Array, z: Array) -> Array:
        """Return ``y * (dy - sum(dy * y)) / temperature``."""
        dz: Array = y * (dy - (dy * y).sum(axis=-2, keepdims=True)) / self.temperature
        return dz


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.name: kind for kind in (Identity, ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softmax)
}


def get(activation: "str | dict[str, Any] | Activation") -> Activation:
    """Return an activation from its name, ``{"name": ..., options}`` or itself.

    Raises
    ------
    ConfigError
        If a name or an option does not exist.
    """
    if isinstance(activation, Activation):
        return activation
    options = {"name": activation} if isinstance(activation, str) else dict(activation)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ConfigError(
            f"activation '{short(name)}' does not exist: choose from {', '.join(ACTIVATIONS)}"
        )
    check_options(f"activation {name}", ACTIVATIONS[name], options)
    return ACTIVATIONS[name](**options)
