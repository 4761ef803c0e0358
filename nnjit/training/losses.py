"""Losses: functions of logits z (N, units), an output activation and targets y (N, units).

Each returns one value per clip of the batch and the gradient of their sum with respect to z. The
two cross-entropies are computed from the logits, which is numerically stable.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from ..activations import Activation, Sigmoid, Softmax
from ..errors import ConfigError

Array = NDArray[Any]


class Loss(ABC):
    """A distance between outputs and targets."""

    name: ClassVar[str]

    def check(self, activation: Activation) -> None:  # noqa: B027 - most losses take any activation
        """Raise ConfigError if the loss does not fit this output activation."""

    @abstractmethod
    def __call__(self, z: Array, activation: Activation, y: Array) -> tuple[Array, Array]:
        """Return the values (N,) and the gradient of their sum with respect to z (N, units)."""


class _OfOutputs(Loss):
    """A loss of the outputs p = f(z), averaged over the units; its gradient passes through f."""

    def __call__(self, z: Array, activation: Activation, y: Array) -> tuple[Array, Array]:
        """See `Loss.__call__`."""
        p = activation.forward(z.T)
        value, dp = self.elementwise(p, y.T)
        dz = activation.backward(dp / len(p), p, z.T)
        return value.mean(axis=0), dz.T

    @abstractmethod
    def elementwise(self, p: Array, y: Array) -> tuple[Array, Array]:
        """Return the loss of each output and its derivative by p, both of the shape of p."""


@final
class MSE(_OfOutputs):
    """Mean over the outputs of ``(p - y)**2``."""

    name = "mse"

    def elementwise(self, p: Array, y: Array) -> tuple[Array, Array]:
        """See `_OfOutputs.elementwise`."""
        return (p - y) ** 2, 2 * (p - y)


@final
class MAE(_OfOutputs):
    """Mean over the outputs of ``|p - y|``."""

    name = "mae"

    def elementwise(self, p: Array, y: Array) -> tuple[Array, Array]:
        """See `_OfOutputs.elementwise`."""
        return np.abs(p - y), np.sign(p - y)


@final
class MSLE(_OfOutputs):
    """Mean over the outputs of ``(log(1 + p) - log(1 + y))**2``, for p above -1."""

    name = "msle"

    def check(self, activation: Activation) -> None:
        """Raise ConfigError if outputs can be below 0."""
        if activation.name not in ("sigmoid", "softmax", "relu"):
            raise ConfigError(
                f"loss msle needs outputs above -1, and {activation.name} gives any: "
                "use sigmoid, softmax or relu in the last layer"
            )

    def elementwise(self, p: Array, y: Array) -> tuple[Array, Array]:
        """See `_OfOutputs.elementwise`."""
        difference = np.log1p(p) - np.log1p(y)
        return difference**2, 2 * difference / (1 + p)


@final
class CategoricalCrossEntropy(Loss):
    """``-sum(y * log(softmax(z)))``, from the logits."""

    name = "categorical_cross_entropy"

    def check(self, activation: Activation) -> None:
        """Raise ConfigError unless the output activation is softmax."""
        if not isinstance(activation, Softmax):
            raise ConfigError(
                f"loss {self.name} needs softmax in the last layer, which has {activation.name}"
            )

    def __call__(self, z: Array, activation: Activation, y: Array) -> tuple[Array, Array]:
        """See `Loss.__call__`."""
        assert isinstance(activation, Softmax)
        log_p = activation.log(z.T).T
        return -(y * log_p).sum(axis=1), (np.exp(log_p) - y) / activation.temperature


@final
class BinaryCrossEntropy(Loss):
    """Mean over the outputs of ``-y log(sigmoid(z)) - (1 - y) log(1 - sigmoid(z))``."""

    name = "binary_cross_entropy"

    def check(self, activation: Activation) -> None:
        """Raise ConfigError unless the output activation is sigmoid."""
        if not isinstance(activation, Sigmoid):
            raise ConfigError(
                f"loss {self.name} needs sigmoid in the last layer, which has {activation.name}"
            )

    def __call__(self, z: Array, activation: Activation, y: Array) -> tuple[Array, Array]:
        """See `Loss.__call__`."""
        value = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
        return value.mean(axis=1), (activation.forward(z) - y) / z.shape[1]


LOSSES: dict[str, type[Loss]] = {
    kind.name: kind for kind in (MSE, MAE, MSLE, CategoricalCrossEntropy, BinaryCrossEntropy)
}


def get(loss: str | Loss) -> Loss:
    """Return a loss by its name; ConfigError if there is none of that name."""
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ConfigError(f"loss '{loss}' does not exist: choose from {', '.join(LOSSES)}")
    return LOSSES[loss]()
