"""How large weights, gradients and outputs of each layer are while a model is trained."""

from math import sqrt
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..layers.gradients import as_array
from ..model import Sequential
from ..parts import Part
from .callbacks import Batch, Callback, Progress


@final
class Norms(Callback, Part):
    """Puts sizes on record, of the last batch of an epoch, for every layer by name.

    ``gradient_norm/LAYER`` and ``weight_norm/LAYER`` are Euclidean norms over all its parameters,
    the gradient before it is clipped; ``activation_rms/LAYER`` is the root of the mean square of
    its outputs, outside training. No bit of the training changes.

    Parameters
    ----------
    every
        Epochs from one measurement to the next, 1 or more; None never measures.

    Attributes
    ----------
    values : dict
        What was measured, by epoch and name.
    """

    def __init__(self, every: int | None = 1) -> None:
        if every is not None and every < 1:
            raise ConfigError(f"callbacks.norms.every={every} must be 1 epoch or more, or null")
        self.every = every
        self.values: dict[int, dict[str, float]] = {}

    def on_batch_end(self, progress: Progress) -> None:
        """Measure at the end of an epoch."""
        batch, is_last = progress.last_batch, progress.batch == progress.n_batches - 1
        if self.every is None or batch is None or not is_last or progress.epoch % self.every:
            return
        model = progress.model
        found: dict[str, float] = {}
        for layer, gradients in batch.gradients.items():
            found[f"gradient_norm/{layer}"] = _norm(gradients)
            found[f"weight_norm/{layer}"] = _norm({k: model.params[layer][k] for k in gradients})
        for layer, outputs in _outputs(model, batch).items():
            found[f"activation_rms/{layer}"] = float(np.sqrt(np.mean(np.square(outputs))))
        self.values[progress.epoch] = found
        progress.values |= found


def _outputs(model: Sequential, batch: Batch) -> dict[str, NDArray[Any]]:
    """Return the outputs of each layer by name, (n, ...), with random layers off."""
    tiles: dict[str, NDArray[Any]] = {}
    logits, _ = model.forward_rows(batch.clips, batch.rows, outputs=tiles)
    numbers = {k: x for k, x in tiles.items() if x.dtype.kind == "f"}  # codes are symbols
    lanes = {k: np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1]) for k, x in numbers.items()}
    outputs = {k: x[: len(batch.rows)] for k, x in lanes.items()}
    return {**outputs, model.head.name: model.activation.forward(logits.T).T}


def _norm(arrays: Any) -> float:
    each = (as_array(array) for array in arrays.values())
    return sqrt(sum(float(np.vdot(array, array)) for array in each))
