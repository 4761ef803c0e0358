"""The engine of every recurrent layer: tiles of lanes, pieces of time, and a cell's kernels."""

from collections.abc import Callable
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
from .bptt import Bptt
from .cells import Cell
from .spec import Codes, Signal, Spec, Vector

_PIECE_BYTES = 1 << 21  # of the arrays of a piece of time: they stay in the caches
_KEEP_BYTES = 1 << 28  # above this, checkpoint="auto" recomputes the gates instead of keeping them
Arrays = dict[str, Array]


class Recurrent(Layer):
    """Base of RNN, GRU and LSTM: parameters U (D, G H), V (H, G H), b (G H).

    Time is walked in pieces, forwards and backwards. While training, the gates of all steps are
    kept, or only the states at the start of each piece (see `Bptt`, which ``bptt`` holds). Pieces
    and tiles have nothing to say on the bits: sums over time go in fixed spans from the end, sums
    over tiles in order.
    """

    cell: Cell
    bptt: Bptt = Bptt()

    def __init__(
        self,
        hidden_size: int,
        return_sequences: bool = False,
        kernel_initializer: str = "xavier",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
    ) -> None:
        if hidden_size < 1:
            raise ConfigError(f"hidden_size={hidden_size} must be 1 or more")
        self.hidden_size = hidden_size
        self.return_sequences = return_sequences
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer

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
        pieces, project = self._pieces(tiles, T), self._projection()
        keep = training and not self._recomputes(tiles, T)
        kept = self._arrays(tiles, T) if keep else {}
        starts = self._states(tiles, len(pieces)) if training and not keep else None
        y = self._outputs(tiles, T, kept)

        def run(i: int) -> None:
            work = self._work(kept, i, pieces)
            last = work["h"][0]
            for p, (begin, end) in enumerate(pieces):
                piece = self._cut(work, begin, end) if kept else self._cut(work, 0, end - begin)
                if starts is not None:
                    starts[i, p] = [piece[name][0] for name in self.cell.states]
                self._run_forward(project, x[i, begin:end], piece)
                last = piece["h"][-1]
                if not kept:
                    if self.return_sequences:
                        y[i, begin:end] = piece["h"][1:]
                    for name in self.cell.states:
                        work[name][0] = piece[name][-1]
            if not self.return_sequences:
                y[i] = last

        for_each(run, tiles)
        return y, (x, kept, starts)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs and of U, V, b."""
        x, kept, starts = cache
        tiles, T = x.shape[:2]
        pieces, project = self._pieces(tiles, T), self._projection()
        if not self.return_sequences:
            dy = dy[:, None]
        first = T - dy.shape[1]
        wanted = not (self._codes or self.is_first)
        dx = np.empty(x.shape if wanted else (tiles, T, 0, LANES), dy.dtype)
        sums = {k: np.zeros((tiles, *v.shape), v.dtype) for k, v in self.params.items()}

        def run(i: int) -> None:
            grads = {k: v[i] for k, v in sums.items()}
            carries = self._states(1, 1)[0, 0][:, None]
            carries[...] = 0
            work = self._work(kept, i, pieces)
            for p in range(len(pieces) - 1, -1, -1):
                begin, end = pieces[p]
                piece = self._cut(work, begin, end) if kept else self._cut(work, 0, end - begin)
                if starts is not None:
                    for name, state in zip(self.cell.states, starts[i, p], strict=True):
                        piece[name][0] = state
                    self._run_forward(project, x[i, begin:end], piece)
                if self.bptt.truncate and end % self.bptt.truncate == 0:
                    carries[...] = 0
                dh = dy[i, max(begin - first, 0) : max(end - first, 0)]
                arrays = self._cell_arrays(piece)
                self.cell.backward(piece["a"], *self._weights(), *arrays, dh, *carries)
                self._collect(piece, x[i, begin:end], grads, dx[i, begin:end])

        for_each(run, tiles)
        grads = {k: v.sum(axis=0) for k, v in sums.items()}
        if self._codes:
            grads["b"] = grads["U"].sum(axis=0)
        return dx if wanted else None, grads

    def _run_forward(
        self, project: Callable[[Array, Array], None], x: Array, piece: Arrays
    ) -> None:
        project(piece["a"], x)
        self.cell.forward(piece["a"], *self._weights(), *self._cell_arrays(piece))

    def _collect(self, piece: Arrays, x: Array, grads: Arrays, dx: Array) -> None:
        """Add what a piece that went backwards gives to the gradients."""
        weight_grads = [grads[name] for name in self.cell.weights]
        self.cell.gradients(piece["a"], *self._cell_arrays(piece), *weight_grads)
        if self._codes:
            project_codes_backward(piece["a"], x, grads["U"])
        else:
            project_signal_backward(piece["a"], x, self.params["U"], grads["U"], grads["b"], dx)

    def _projection(self) -> Callable[[Array, Array], None]:
        """Return what fills ``a`` from inputs, with the parameters of this moment."""
        U, b = self.params["U"], self.params["b"]
        if not self._codes:
            return lambda a, x: project_signal(a, x, U, b)
        table = table_of(U, b)
        return lambda a, x: project_codes(a, x, table)

    def _weights(self) -> list[Array]:
        return [self.params[name] for name in self.cell.weights]

    def _cell_arrays(self, piece: Arrays) -> list[Array]:
        return [piece[name] for name in (*self.cell.states, *self.cell.scratch)]

    def _arrays(self, tiles: int, T: int) -> Arrays:
        """Allocate what the kernels work on."""
        H, dtype = self.hidden_size, self.params["V"].dtype
        arrays = {"a": np.empty((tiles, T, self.cell.gates * H, LANES), dtype)}
        for name in self.cell.states:
            arrays[name] = np.empty((tiles, T + 1, H, LANES), dtype)
        for name in self.cell.scratch:
            arrays[name] = np.empty((tiles, T, H, LANES), dtype)
        for name in self.cell.states:
            arrays[name][:, 0] = 0
        return arrays

    def _work(self, kept: Arrays, i: int, pieces: list[tuple[int, int]]) -> Arrays:
        """Return the arrays of tile i that are kept, or else some for one piece after the other."""
        if kept:
            return {k: v[i] for k, v in kept.items()}
        longest = max(end - begin for begin, end in pieces)
        return {k: v[0] for k, v in self._arrays(1, longest).items()}

    def _states(self, *shape: int) -> Array:
        """Allocate states for each element of ``shape``."""
        H, dtype = self.hidden_size, self.params["V"].dtype
        return np.empty((*shape, len(self.cell.states), H, LANES), dtype)

    def _cut(self, work: Arrays, begin: int, end: int) -> Arrays:
        """Return steps begin to end of the arrays of a tile; states have one step more."""
        states = self.cell.states
        return {k: v[begin : end + 1 if k in states else end] for k, v in work.items()}

    def _outputs(self, tiles: int, T: int, kept: Arrays) -> Array:
        if self.return_sequences and kept:
            return kept["h"][:, 1:]
        shape = (T, self.hidden_size) if self.return_sequences else (self.hidden_size,)
        return np.empty((tiles, *shape, LANES), self.params["V"].dtype)

    def _step_bytes(self) -> int:
        per_unit = self.cell.gates + len(self.cell.states) + len(self.cell.scratch)
        return per_unit * self.hidden_size * LANES * self.params["V"].itemsize

    def _recomputes(self, tiles: int, T: int) -> bool:
        if self.bptt.checkpoint == "auto":
            return tiles * T * self._step_bytes() > _KEEP_BYTES
        return self.bptt.checkpoint != "off"

    def _pieces(self, tiles: int, T: int) -> list[tuple[int, int]]:
        """Cut time where the gradient is cut, and between at multiples of GRAIN (see `product`)."""
        if isinstance(self.bptt.checkpoint, int):
            wanted = self.bptt.checkpoint
        else:
            wanted = _PIECE_BYTES // self._step_bytes()
            if self._recomputes(tiles, T):
                wanted = max(wanted, round(T**0.5))
        steps, reach = max(1, round(wanted / GRAIN)) * GRAIN, self.bptt.truncate or T
        return [
            (begin, min(begin + steps, start + reach, T))
            for start in range(0, T, reach)
            for begin in range(start, min(start + reach, T), steps)
        ]
