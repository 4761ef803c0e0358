"""The base of every recurrent layer: runs a cell's kernels on tiles of clips, forth and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..cells import text
from ..cells.compiled import Kernels, kernels
from ..cells.definition import Cell, Start
from ..cells.gates import find_gate, with_activations
from ..cells.named import is_file, named
from ..errors import CellError, ConfigError, ShapeError, short
from ..kernels._lanes import LANES
from ..kernels.team import (
    WorkShare,
    barrier_between_kernels,
    give_up,
    whole_layer,
    work_shares,
)
from ..options import choose
from ..runtime.memory import empty
from ..runtime.threads import for_each, free_threads, run_team
from .arrays import Arrays, Lengths
from .base import Array, Gradients, Layer, Parameter
from .bptt import Bptt
from .calls import KernelCalls
from .plan import ExecutionPlan, execution_plan
from .spec import Codes, Signal, Spec, Vector


class Residuals(NamedTuple):
    """The cache of `Recurrent.forward`: inputs, and saved gates or the states of segments.

    ``masks`` holds the mask of recurrent dropout, ``end`` the states after the last step.
    """

    x: Array
    lengths: Lengths
    saved: Arrays
    segment_states: Arrays
    masks: Arrays
    segments: tuple[tuple[int, int], ...]
    end: Arrays


class Recurrent(Layer):
    """A layer of any cell, and the base of RNN, GRU and LSTM.

    Its parameters are U (D, G H) and b (G H) for the G gates of the cell, V (H, M H) for its M
    recurrent matrices, and its vectors (H,).

    Either groups of tiles run in parallel, or a team of threads shares the units of the layer. Time
    is cut into segments. While training, the gates of all steps are saved, or only the states at
    the start of each segment (``bptt``, a `Bptt`). The bits do not depend on groups, teams and
    segments: sums over time are taken in fixed spans from the end, sums over tiles in order.

    Parameters
    ----------
    cell
        A name of `nnjit.cells.library`, a function of equations (see `nnjit.cells.cell`),
        ``FILE.py:NAME`` for a function in a file, which is then run, or the plain form of
        `nnjit.cells.text.plain`.
    hidden_size
        H, the number of units.
    return_sequences
        All states, (N, T, H), instead of the last, (N, H).
    kernel_initializer, recurrent_initializer, bias_initializer
        For U, V, and b with the vectors; see `nnjit.initializers`.
    activations
        By gate, replacing those of the equations (see `nnjit.cells.gates`); None keeps them.
    forget_bias
        Initial value of the forget gate's bias, such as 1 (Jozefowicz et al. 2015); None draws it
        like the others.
    recurrent_dropout
        Fraction of the units, from 0 to below 1, that are set to 0 before products with V while
        training: the same units at all steps of a clip, others for each clip (Gal & Ghahramani
        2016, arXiv:1512.05287). The rest is divided by ``1 - recurrent_dropout``.

    Raises
    ------
    CellError
        If there is no such cell, gate or activation, or the equations cannot be compiled.
    """

    takes = ("lengths",)
    chance = ("recurrent_dropout",)
    bptt: Bptt = Bptt()
    codes: bool = False
    _ragged: bool = False
    _last_calls: KernelCalls | None = None

    def __init__(
        self,
        cell: Any,
        hidden_size: int,
        return_sequences: bool = False,
        kernel_initializer: str = "xavier",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
        activations: dict[str, str | None] | None = None,
        forget_bias: float | None = None,
        recurrent_dropout: float = 0.0,
    ) -> None:
        if hidden_size < 1:
            raise ConfigError(f"hidden_size={hidden_size} must be 1 or more")
        self.hidden_size = hidden_size
        self._equations = named(cell)
        self.activations = activations
        self.cell: Cell = with_activations(self._equations, activations or {})
        self.forget_bias = forget_bias
        if forget_bias is not None and find_gate(self.cell, "forget") is None:
            raise CellError(f"forget_bias={forget_bias}: {self.cell.name} has no forget gate")
        _check_dropout(self.cell, recurrent_dropout)
        self.recurrent_dropout = recurrent_dropout
        self._masked = recurrent_dropout > 0
        self._kernels: Kernels = kernels(self.cell, self._masked)
        self.return_sequences = return_sequences
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer

    @property
    def _calls(self) -> KernelCalls:
        calls = self._last_calls
        if calls is None or calls.params is not self.params or calls.kernels is not self._kernels:
            calls = KernelCalls(self._kernels, self.params, self.hidden_size, self.codes)
            self._last_calls = calls
        return calls

    @classmethod
    def recorded(cls, options: dict[str, Any]) -> "Layer":
        """Return a layer from `config`, whose cell must be equations: a file would be run."""
        if is_file(options.get("cell")):
            raise CellError(f"cell={short(options['cell'])}: a record holds equations, not a file")
        return cls(**options)

    def config(self) -> dict[str, Any]:
        """Return the class and its options; a cell as its equations."""
        options = super().config()
        return options | {"cell": text.plain(self._equations)} if "cell" in options else options

    def connect(self, spec: Spec) -> Spec:
        """Take sequences and codes; see `Layer.connect`."""
        if not isinstance(spec, Codes | Signal):
            raise ShapeError(
                f"{self.name} expected (N, T, D) or codes, got {spec}: "
                "set return_sequences=true in the layer before, or move Flatten after it"
            )
        self.codes, self._ragged = isinstance(spec, Codes), spec.n_steps is None
        self._kernels = kernels(self.cell, self._masked, self._ragged)
        H = self.hidden_size
        return Signal(spec.n_steps, H) if self.return_sequences else Vector(H)

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return U, V and b, with a block for each gate, and the vectors of the cell."""
        assert isinstance(spec, Codes | Signal)
        cell, H, bias = self.cell, self.hidden_size, self.bias_initializer
        declared = {"U": Parameter(self.kernel_initializer, (spec.n_features, H), len(cell.gates))}
        if cell.matrices:
            declared["V"] = Parameter(self.recurrent_initializer, (H, H), len(cell.matrices))
        biases = tuple(self._bias_start(gate) for gate in cell.gates)
        declared["b"] = Parameter(bias, (H,), len(cell.gates), biases)
        return declared | {
            name: Parameter(bias, (H,), starts=(cell.starts.get(name),)) for name in cell.vectors
        }

    def _bias_start(self, gate: str) -> Start | None:
        if self.forget_bias is not None and gate == find_gate(self.cell, "forget"):
            return self.forget_bias
        return self.cell.starts.get(f"b.{gate}")

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return all states, (tiles, T, H, LANES), or the last, (tiles, H, LANES).

        ``lengths`` is as in `scan`.
        """
        return self._forward(x, {}, training, rng, self._lengths(x, lengths))

    def scan(
        self,
        x: Array,
        initial_state: Arrays | None = None,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Arrays, Any]:
        """Run `forward` from an initial state; return outputs, the final state and the cache.

        A sequence that is cut into pieces, each run from the final state of the piece before, gives
        the same bits as the sequence at once.

        Parameters
        ----------
        initial_state : dict of (tiles, H, LANES)
            The states before the first step, by name; a state that is not given is 0.
        lengths : (tiles, LANES), optional
            Steps of each clip, 0 to T, if the layer is built for any length (``n_steps`` of `spec`
            is None). After the end of a clip its states do not change. The inputs there must be
            finite, and have no effect. None: all clips have T steps.

        Raises
        ------
        ShapeError
            If ``initial_state`` or ``lengths`` do not fit this layer.
        """
        first = self._given(initial_state or {}, len(x))
        y, cache = self._forward(x, first, training, rng, self._lengths(x, lengths))
        end = [cache.end[name].copy() for name in self._kernels.source.states]
        return y, self._by_state(end), cache

    def scan_backward(
        self, dy: Array, dstate: Arrays, cache: Any
    ) -> tuple[Array | None, Arrays, Gradients]:
        """Return the gradients of the inputs, of the initial state and of the parameters.

        Parameters
        ----------
        dy
            As `backward` takes it.
        dstate : dict of (tiles, H, LANES)
            Gradient of the final states, by name; one that is not given is 0.
        """
        dstate = self._given(dstate, len(dy))
        shape = (len(dy), self.hidden_size, LANES)
        carries = [
            np.array(dstate.get(name, np.zeros(shape)), dy.dtype)[:, None]
            for name in self._kernels.source.states
        ]
        dx, grads = self._backward(dy, carries, cache)
        return dx, self._by_state([carry[:, 0] for carry in carries]), grads

    def _given(self, state: Arrays, tiles: int) -> Arrays:
        """Return a caller's states, checked, under the names that the kernels use."""
        names = dict(zip(self.cell.states, self._kernels.source.states, strict=True))
        shape = (tiles, self.hidden_size, LANES)
        for name, value in state.items():
            if name not in names:
                raise ShapeError(
                    f"{self.name} has no state {short(name)}: {choose(name, self.cell.states)}"
                )
            if np.shape(value) != shape:
                raise ShapeError(
                    f"the state {name} of {self.name} is {np.shape(value)}, it needs {shape}"
                )
        return {names[name]: value for name, value in state.items()}

    def _by_state(self, values: list[Array]) -> Arrays:
        return dict(zip(self.cell.states, values, strict=True))

    def _lengths(self, x: Array, lengths: Lengths) -> Lengths:
        """Return the lengths for kernels that take lengths, None for other kernels."""
        if not self._ragged:
            if lengths is not None:
                raise ShapeError(f"{self.name} takes clips of one length: build it for any length")
            return None
        tiles, T = x.shape[:2]
        return np.full((tiles, LANES), T) if lengths is None else lengths

    def _forward(
        self,
        x: Array,
        first: Arrays,
        training: bool,
        rng: np.random.Generator | None,
        lengths: Lengths,
    ) -> tuple[Array, Residuals]:
        """Return outputs and cache; ``first`` are the initial states that are not 0."""
        tiles, T = x.shape[:2]
        plan, calls = self._plan(tiles, T), self._calls
        memory, names = calls.memory, calls.kernels.source.states
        masks = memory.masks(tiles, self.recurrent_dropout if training else 0.0, rng)
        segments = plan.segments
        keep = len(segments) == 1 or (training and plan.keep)
        saved = memory.allocate(tiles, T, masks) if keep else {}
        for name, value in first.items() if keep else ():
            saved[name][:, 0] = value
        end = {} if keep else memory.states(tiles)
        segment_states = memory.states(len(segments), tiles) if training and not keep else {}
        outputs = saved[names[0]][:, 1:] if keep else self._outputs(tiles, T)

        def run(group: slice, work: Arrays, share: WorkShare) -> None:
            units = slice(share.begin, share.end)
            for name, value in () if keep else first.items():
                work[name][:, 0, units] = value[group, units]
            for p, (begin, stop) in enumerate(segments):
                segment = memory.cut(work, *((begin, stop) if keep else (0, stop - begin)))
                for name, states in segment_states.items():
                    states[p, group, units] = segment[name][:, 0, units]
                left = _left(lengths, group, begin)
                calls.forward(x[group, begin:stop], segment, left, plan, share)
                if keep:
                    continue
                if self.return_sequences:
                    outputs[group, begin:stop, units] = segment[names[0]][:, 1:, units]
                for name in names:
                    work[name][:, 0, units] = segment[name][:, -1, units]
            for name, states in end.items():
                states[group, units] = segment[name][:, -1, units]

        self._run(run, plan, saved, masks)
        if keep:
            end = {name: saved[name][:, -1] for name in names}
        y = outputs if self.return_sequences else end[names[0]].copy()
        return y, Residuals(x, lengths, saved, segment_states, masks, segments, end)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs and of U, V, b."""
        shape = (len(dy), 1, self.hidden_size, LANES)
        return self._backward(dy, [np.zeros(shape, dy.dtype) for _ in self.cell.states], cache)

    def _backward(
        self, dy: Array, carries: list[Array], residuals: Residuals
    ) -> tuple[Array | None, Gradients]:
        """Return the gradients of x and of the parameters.

        ``carries`` are the gradients of the final states, and are overwritten by those of the
        initial states.
        """
        x, saved, segments = residuals.x, residuals.saved, residuals.segments
        segment_states = residuals.segment_states
        tiles, T, calls = *x.shape[:2], self._calls
        if not self.return_sequences:
            dy = dy[:, None]
        first = T - dy.shape[1]
        needs_dx = not (self.codes or self.is_first)
        dx = empty(x.shape if needs_dx else (tiles, T, 0, LANES), dy.dtype)
        summed = {"U": self.params["U"], "b": self.params["b"], **calls.weights()}
        sums = {k: np.zeros((tiles, *v.shape), v.dtype) for k, v in summed.items()}
        plan = self._plan(tiles, T)

        def run(group: slice, work: Arrays, share: WorkShare) -> None:
            units = slice(share.begin, share.end)
            group_sums = {k: v[group] for k, v in sums.items()}
            carry = [v[group] for v in carries]
            for p in range(len(segments) - 1, -1, -1):
                begin, end = segments[p]
                inputs, left = x[group, begin:end], _left(residuals.lengths, group, begin)
                segment = calls.memory.cut(work, *((begin, end) if saved else (0, end - begin)))
                if not saved:
                    barrier_between_kernels(share)  # others may still read the previous segment
                    for name, states in segment_states.items():
                        segment[name][:, 0, units] = states[p, group, units]
                    calls.forward(inputs, segment, left, plan, share)
                if self.bptt.truncate and end % self.bptt.truncate == 0 and end < T:
                    continues = True if left is None else (left > end - begin)[:, None, None]
                    for state in carry:
                        np.copyto(state[:, :, units], 0, where=continues)
                dh = dy[group, max(begin - first, 0) : max(end - first, 0)]
                calls.backward(segment, left, dh, carry, plan, share)
                calls.gradients(segment, inputs, group_sums, dx[group, begin:end], plan, share)

        self._run(run, plan, saved, residuals.masks)
        return dx if needs_dx else None, calls.total(sums)

    def _run(
        self,
        run: Callable[[slice, Arrays, WorkShare], None],
        plan: ExecutionPlan,
        saved: Arrays,
        masks: Arrays,
    ) -> None:
        """Call ``run`` for every group, or for every member of a team."""
        groups = plan.groups

        def work(group: slice) -> Arrays:
            if saved:
                return saved if len(groups) == 1 else {k: v[group] for k, v in saved.items()}
            group_masks = {k: v[group] for k, v in masks.items()}
            return self._calls.memory.allocate(group.stop - group.start, plan.longest, group_masks)

        if plan.team == 1:
            share = whole_layer(self.hidden_size)
            for_each(lambda g: run(groups[g], work(groups[g]), share), len(groups))
            return
        arrays, team = work(groups[0]), work_shares(self.hidden_size, plan.team)

        def member(share: WorkShare) -> None:
            run(groups[0], arrays, share)

        run_team(member, team, lambda: give_up(team[0]))

    def _outputs(self, tiles: int, T: int) -> Array:
        steps = T if self.return_sequences else 0
        return empty((tiles, steps, self.hidden_size, LANES), self.params["U"].dtype)

    def _plan(self, tiles: int, T: int) -> ExecutionPlan:
        bptt, size = self.bptt, self._calls.size
        return execution_plan(size, tiles, T, bptt.checkpoint, bptt.truncate, free_threads())


def _left(lengths: Lengths, group: slice, begin: int) -> Lengths:
    """Return the lengths of the clips of a group, counted from a step on."""
    return None if lengths is None else lengths[group] - begin


def _check_dropout(cell: Cell, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ConfigError(f"recurrent_dropout={rate} must be from 0 to below 1")
    if rate > 0 and not cell.matrices:
        raise ConfigError(
            f"recurrent_dropout={rate}: {cell.name} has no recurrent matrix: "
            "put Dropout after the layer"
        )
