"""Checks the gradients of a model against central differences."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from ..layers.gradients import as_array
from ..model import Sequential
from . import losses

Array = NDArray[Any]
TOLERANCE = 1e-5
_SMALL = 1e-5  # below this, gradients are compared absolutely: differences have rounding errors


@final
@dataclass(frozen=True)
class GradientReport:
    """The largest relative error of each parameter, by ``"layer.name"``."""

    errors: dict[str, float]
    samples: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether every error is below `TOLERANCE`."""
        return all(error < TOLERANCE for error in self.errors.values())

    def __str__(self) -> str:
        width = max(len(name) for name in ("parameter", *self.errors))
        lines = [f"{'parameter':<{width}}  samples     error", "-" * (width + 19)]
        for name, error in self.errors.items():
            mark = "" if error < TOLERANCE else "  wrong"
            lines.append(f"{name:<{width}}  {self.samples[name]:>7}  {error:8.1e}{mark}")
        return "\n".join(lines)


def check_gradients(
    model: Sequential,
    x: Any,
    labels: ArrayLike,
    *,
    loss: str | losses.Loss = "mse",
    samples: int = 20,
    epsilon: float = 1e-5,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of a model with central differences.

    Use it to check a new layer. It works on a float64 copy without dropout; the model itself does
    not change. An error is relative to the largest gradient among the samples of its parameter.

    Parameters
    ----------
    model
        A built model.
    x
        As in `Sequential.forward`; a few short clips are enough.
    labels
        Classes (N,).
    loss
        A name or a loss; see `nnjit.losses`.
    samples
        Number of entries of each parameter that are compared, drawn with ``seed``.
    epsilon
        Step of the differences.

    Examples
    --------
    >>> import numpy as np
    >>> from nnjit import GRU, Codes, Dense, Sequential
    >>> model = Sequential([GRU(3), Dense(2, "softmax")]).build(Codes(20, 16))
    >>> codes = np.random.default_rng(0).integers(0, 16, (4, 20))
    >>> check_gradients(model, codes, [0, 1, 1, 0]).ok
    True
    """
    y = _targets(np.asarray(labels), model.head.units)
    n = len(model.check(x))
    if n != len(y):
        raise ShapeError(f"{n} clips and {len(y)} labels: give one label for each clip")
    model = _float64_copy(model)
    function = losses.get(loss)
    function.check(model.activation)

    def evaluate() -> tuple[float, Array, list[Any]]:
        z, caches = model.forward(x, training=True)
        values, dz = function(z, model.activation, y)
        return float(values.sum()), dz, caches

    def difference(w: Array, i: int) -> float:
        index = np.unravel_index(i, w.shape)
        before = w[index]
        w[index] = before + epsilon
        above = evaluate()[0]
        w[index] = before - epsilon
        below = evaluate()[0]
        w[index] = before
        return (above - below) / (2 * epsilon)

    _, dz, caches = evaluate()
    grads = model.backward(dz, caches)
    rng = np.random.default_rng(seed)
    errors, counts = {}, {}
    for layer, group in model.params.items():
        for name, w in group.items():
            at = rng.choice(w.size, min(samples, w.size), replace=False)
            gradient = grads.get(layer, {}).get(name, np.zeros_like(w))  # 0 if backward omits it
            actual = as_array(gradient).reshape(-1)[at]
            expected = np.array([difference(w, i) for i in at])
            scale = max(np.abs(expected).max(), np.abs(actual).max(), _SMALL)
            errors[f"{layer}.{name}"] = float(np.abs(actual - expected).max() / scale)
            counts[f"{layer}.{name}"] = len(at)
    return GradientReport(errors, counts)


def _targets(labels: Array, units: int) -> Array:
    return labels[:, None].astype(np.float64) if units == 1 else np.eye(units)[labels]


def _float64_copy(model: Sequential) -> Sequential:
    model = deepcopy(model)
    model.dtype = "float64"
    for layer in model.layers:
        layer.params = {name: value.astype(np.float64) for name, value in layer.params.items()}
        for part in layer.inner():
            for option in part.chance:
                setattr(part, option, 0.0)
    return model
