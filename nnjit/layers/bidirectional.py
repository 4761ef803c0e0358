"""Both directions of time: a recurrent layer, and its twin that reads clips from their ends."""

from collections.abc import Iterator
from copy import copy, deepcopy
from typing import Any, final

import numpy as np

from ..errors import ConfigError, short
from .arrays import Arrays, Lengths
from .base import Array, Gradients, Layer, Parameter
from .recurrent import Recurrent
from .spec import Signal, Spec, Vector

_MODES = ("concat", "sum")


@final
class Bidirectional(Layer):
    """A recurrent layer on clips and on reversed clips (Schuster & Paliwal 1997).

    Of all states, those of both directions at the same step belong together; of last states, one
    is at the end of the clip, the other at its beginning.

    Parameters
    ----------
    layer
        The layer that reads forwards; its twin has the same options and parameters of its own.
    merge_mode
        "concat": the states of both side by side, 2 H; "sum": their sum, H.
    """

    takes = ("lengths",)
    needs_all_steps = True

    def __init__(self, layer: Recurrent, merge_mode: str = "concat") -> None:
        if not isinstance(layer, Recurrent):
            raise ConfigError(
                f"Bidirectional wraps RNN, GRU, LSTM or Recurrent, not {short(layer)}"
            )
        if merge_mode not in _MODES:
            raise ConfigError(
                f"Bidirectional merge_mode={merge_mode} does not exist: "
                f"choose from {', '.join(_MODES)}"
            )
        self.layer = layer
        self.merge_mode = merge_mode
        self._twin = deepcopy(layer)

    @property
    def params(self) -> Arrays:
        """The parameters of both directions."""
        return self._params

    @params.setter
    def params(self, params: Arrays) -> None:
        self._params = params
        self.layer, self._twin = copy(self.layer), copy(self._twin)  # a copy may have other ones
        for direction, layer in self._directions():
            layer.params = {
                name.removeprefix(direction): value
                for name, value in params.items()
                if name.startswith(direction)
            }

    def _directions(self) -> tuple[tuple[str, Recurrent], tuple[str, Recurrent]]:
        return ("forward_", self.layer), ("backward_", self._twin)

    def inner(self) -> Iterator[Layer]:
        """Yield the layers of both directions too; see `Layer.inner`."""
        yield from (self, self.layer, self._twin)

    def connect(self, spec: Spec) -> Spec:
        """Take what the layer takes; see `Layer.connect`."""
        for _, layer in self._directions():
            layer.name, layer.is_first = self.name, self.is_first
            found = layer.connect(spec)
        units = layer.hidden_size * (2 if self.merge_mode == "concat" else 1)
        return Signal(found.n_steps, units) if isinstance(found, Signal) else Vector(units)

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return those of both directions; see `Layer.parameters`."""
        return {
            direction + name: p
            for direction, layer in self._directions()
            for name, p in layer.parameters(spec).items()
        }

    def config(self) -> dict[str, Any]:
        """Return what `Layer.config` does, with the wrapped layer as ``of``."""
        kind = {"layer": type(self).__name__, "of": self.layer.config()}
        return kind | {"merge_mode": self.merge_mode}

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return all states or the last ones, as the layer does, of both directions."""
        options: dict[str, Any] = {"training": training, "rng": rng, "lengths": lengths}
        ahead, cache = self.layer.forward(x, **options)
        back, twin_cache = self._twin.forward(_reversed(x, lengths), **options)
        if self.layer.return_sequences:
            back = _reversed(back, lengths)
        y = ahead + back if self.merge_mode == "sum" else np.concatenate([ahead, back], axis=-2)
        return y, (cache, twin_cache, lengths)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs and of the parameters of both directions."""
        ahead_cache, twin_cache, lengths = cache
        ahead, back = dy, dy
        if self.merge_mode == "concat":
            ahead, back = map(np.ascontiguousarray, np.split(dy, 2, axis=-2))
        if self.layer.return_sequences:
            back = _reversed(back, lengths)
        dx, grads = self.layer.backward(ahead, ahead_cache)
        dback, twin_grads = self._twin.backward(back, twin_cache)
        found = {f"forward_{name}": g for name, g in grads.items()}
        found |= {f"backward_{name}": g for name, g in twin_grads.items()}
        if dx is None or dback is None:
            return None, found
        return dx + _reversed(dback, lengths), found


def _reversed(x: Array, lengths: Lengths) -> Array:
    """Return the steps of each clip from its last to its first; those behind it stay."""
    if lengths is None:
        return np.ascontiguousarray(x[:, ::-1])
    steps = np.arange(x.shape[1])[:, None]
    ends = lengths[:, None]
    at = np.where(steps < ends, ends - 1 - steps, steps)  # (tiles, T, LANES)
    return np.take_along_axis(x, at if x.ndim == 3 else at[:, :, None], axis=1)
