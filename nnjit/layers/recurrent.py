"""The engine of every recurrent layer: tiles of lanes, pieces of time, and a cell's kernels."""

from typing import Any

import numpy as np

from .. import initializers
from ..errors import ConfigError, ShapeError
from ..kernels._lanes import LANES
from ..kernels.inputs import (
    project_codes,
    project_codes_backward,
    project_signal,
    project_signal_backward,
    table_of,
)
from ..kernels.product import GRAIN
from ..threads import for_each
from .base import Array, Gradients, Layer
from .cells import Cell
from .spec import Codes, Signal, Spec, Vector

_PIECE_BYTES = 1 << 18  # projections of a piece of time: they stay in the second-level cache
_KEEP_BYTES = 1 << 28  # above this, checkpoint="auto" recomputes the gates instead of keeping them


class Recurrent(Layer):
    """Base of RNN, GRU and LSTM: parameters U (D, G H), V (H, G H), b (G H).

    Time is walked in pieces, forwards and backwards. While training, the gates of all steps are
    kept, or, with checkpoints, only the states at the start of each piece, and the rest is computed
    again on the way back (Chen et al. 2016): the same bits in about sqrt(T) of the memory.
    """

    cell: Cell

    def __init__(
        self,
        hidden_size: int,
        return_sequences: bool = False,
        kernel_initializer: str = "xavier",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
        checkpoint: str | int = "auto",
    ) -> None:
        if hidden_size < 1:
            raise ConfigError(f"hidden_size={hidden_size} must be 1 or more")
        if checkpoint not in ("auto", "off") and not (
            isinstance(checkpoint, int) and checkpoint > 0
        ):
            raise ConfigError(f"checkpoint={checkpoint} must be auto, off or a number of steps")
        self.hidden_size = hidden_size
        self.return_sequences = return_sequences
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.checkpoint = checkpoint

    def build(self, spec: Spec, rng: np.random.Generator, dtype: Any) -> Spec:
        """Draw the parameters, gate by gate; see `Layer.build`."""
        if not isinstance(spec, Codes | Signal):
            raise ShapeError(
                f"{self.name} expected (N, T, D) or codes, got {spec}: "
                "set return_sequences=true in the layer before, or move Flatten behind"
            )
        self._codes = isinstance(spec, Codes)
        inputs = spec.levels if isinstance(spec, Codes) else spec.n_features
        H, gates = self.hidden_size, range(self.cell.gates)
        draw = initializers.fill
        self.params = {
            "U": np.hstack([draw(self.kernel_initializer, (inputs, H), rng, dtype) for _ in gates]),
            "V": np.hstack([draw(self.recurrent_initializer, (H, H), rng, dtype) for _ in gates]),
            "b": np.hstack([draw(self.bias_initializer, (H,), rng, dtype) for _ in gates]),
        }
        for weight in self.cell.weights[1:]:
            self.params[weight] = draw(self.bias_initializer, (H,), rng, dtype)
        return Signal(spec.n_steps, H) if self.return_sequences else Vector(H)

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return all states, (tiles, T, H, LANES), or the last, (tiles, H, LANES)."""
        tiles, T = x.shape[:2]
        keep = training and not self._recomputes(tiles, T)
        pieces = self._pieces(tiles, T)
        kept = self._arrays((tiles, T)) if keep else {}
        starts = self._starts(tiles, len(pieces)) if training and not keep else None
        y = self._outputs(tiles, T, kept)

        def run(i: int) -> None:
            states = self._zero_states()
            scratch = {} if keep else self._arrays((1, pieces[0][1]))
            for p, (begin, end) in enumerate(pieces):
                if starts is not None:
                    starts[i, p] = states
                work = (
                    self._slice(kept, i, begin, end)
                    if keep
                    else self._slice(scratch, 0, 0, end - begin)
                )
                self._run_piece(x[i, begin:end], work, states)
                states = np.stack([work[name][-1] for name in self.cell.states])
                if self.return_sequences and not keep:
                    y[i, begin:end] = work["h"][1:]
            if not self.return_sequences:
                y[i] = states[0]

        for_each(run, tiles)
        return y, (x, kept, starts)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs and of U, V, b; sums run over tiles in order."""
        x, kept, starts = cache
        tiles, T = x.shape[:2]
        pieces = self._pieces(tiles, T)
        if not self.return_sequences:
            dy = dy[:, None]
        first = T - dy.shape[1]
        dx = np.empty((tiles, T, 0, LANES) if self._codes else x.shape, dy.dtype)
        sums = {
            name: np.zeros((tiles, *value.shape), value.dtype)
            for name, value in self.params.items()
        }

        def run(i: int) -> None:
            grads = {name: value[i] for name, value in sums.items()}
            carries = self._zero_states()[:, None]
            scratch = {} if kept else self._arrays((1, pieces[0][1]))
            for p in range(len(pieces) - 1, -1, -1):
                begin, end = pieces[p]
                work = self._slice(
                    kept or scratch,
                    i if kept else 0,
                    begin if kept else 0,
                    end if kept else end - begin,
                )
                if not kept:
                    self._run_piece(x[i, begin:end], work, starts[i, p])
                dh = dy[i, max(begin - first, 0) : max(end - first, 0)]
                self._run_piece_backward(
                    x[i, begin:end], work, dh, carries, grads, dx[i, begin:end]
                )

        for_each(run, tiles)
        return None if self._codes else dx, {
            name: value.sum(axis=0) for name, value in sums.items()
        }

    def _run_piece(self, x: Array, work: dict[str, Array], states: Array) -> None:
        for name, state in zip(self.cell.states, states, strict=True):
            work[name][0] = state
        if self._codes:
            project_codes(work["a"], x, table_of(self.params["U"], self.params["b"]))
        else:
            project_signal(work["a"], x, self.params["U"], self.params["b"])
        self.cell.forward(work["a"], *self._weights(), *self._cell_arrays(work))

    def _run_piece_backward(
        self,
        x: Array,
        work: dict[str, Array],
        dh: Array,
        carries: Array,
        grads: dict[str, Array],
        dx: Array,
    ) -> None:
        weight_grads = [grads[name] for name in self.cell.weights]
        self.cell.backward(
            work["a"], *self._weights(), *self._cell_arrays(work), dh, *carries, *weight_grads
        )
        if self._codes:
            project_codes_backward(work["a"], x, grads["U"], grads["b"])
        else:
            project_signal_backward(work["a"], x, self.params["U"], grads["U"], grads["b"], dx)

    def _weights(self) -> list[Array]:
        return [self.params[name] for name in self.cell.weights]

    def _cell_arrays(self, work: dict[str, Array]) -> list[Array]:
        return [work[name] for name in (*self.cell.states, *self.cell.scratch)]

    def _arrays(self, shape: tuple[int, int]) -> dict[str, Array]:
        """Allocate what the kernels work on, for ``shape`` = (tiles, steps)."""
        tiles, T = shape
        H, dtype = self.hidden_size, self.params["V"].dtype
        arrays = {"a": np.empty((tiles, T, self.cell.gates * H, LANES), dtype)}
        for name in self.cell.states:
            arrays[name] = np.empty((tiles, T + 1, H, LANES), dtype)
        for name in self.cell.scratch:
            arrays[name] = np.empty((tiles, T, H, LANES), dtype)
        return arrays

    def _slice(self, arrays: dict[str, Array], i: int, begin: int, end: int) -> dict[str, Array]:
        """Return the part of tile i that steps begin to end work on; states have one more."""
        states = self.cell.states
        return {k: v[i, begin : end + 1 if k in states else end] for k, v in arrays.items()}

    def _outputs(self, tiles: int, T: int, kept: dict[str, Array]) -> Array:
        if self.return_sequences and kept:
            return kept["h"][:, 1:]
        shape = (T, self.hidden_size) if self.return_sequences else (self.hidden_size,)
        return np.empty((tiles, *shape, LANES), self.params["V"].dtype)

    def _zero_states(self) -> Array:
        shape = (len(self.cell.states), self.hidden_size, LANES)
        return np.zeros(shape, self.params["V"].dtype)

    def _starts(self, tiles: int, n_pieces: int) -> Array:
        shape = (tiles, n_pieces, len(self.cell.states), self.hidden_size, LANES)
        return np.empty(shape, self.params["V"].dtype)

    def _step_bytes(self) -> int:
        per_unit = self.cell.gates + len(self.cell.states) + len(self.cell.scratch)
        return per_unit * self.hidden_size * LANES * self.params["V"].itemsize

    def _recomputes(self, tiles: int, T: int) -> bool:
        if self.checkpoint == "auto":
            return tiles * T * self._step_bytes() > _KEEP_BYTES
        return self.checkpoint != "off"

    def _pieces(self, tiles: int, T: int) -> list[tuple[int, int]]:
        """Cut time at multiples of GRAIN, which leaves the bits as they are (see `product`)."""
        if isinstance(self.checkpoint, int):
            wanted = self.checkpoint
        else:
            wanted = _PIECE_BYTES // self._step_bytes()
            if self._recomputes(tiles, T):
                wanted = max(wanted, round(T**0.5))
        steps = max(1, round(wanted / GRAIN)) * GRAIN
        return [(begin, min(begin + steps, T)) for begin in range(0, T, steps)]
