"""Calls of a cell's kernels on a segment of time, short enough for signals between two calls."""

from typing import final

from ..cells.compiled import Kernels
from ..kernels import inputs
from ..kernels._lanes import LANES
from ..kernels.team import WorkShare, barrier_between_kernels, partition, rows_of_share
from ..runtime.threads import check_wanted
from .arrays import Arrays, KernelArrays, Lengths
from .base import Array, Gradients
from .plan import ExecutionPlan, Size, spans


@final
class KernelCalls:
    """Runs a layer of ``units`` units of a cell on a segment of time of codes or signals.

    A segment is a dict of arrays, see `KernelArrays`. ``lengths`` are the steps of each clip,
    counted from the first step of the segment.
    """

    def __init__(self, kernels: Kernels, params: Arrays, units: int, codes: bool) -> None:
        self.kernels, self.params, self.units, self.codes = kernels, params, units, codes
        cell, dtype = kernels.cell, params["U"].dtype
        gates = len(cell.gates)
        self.memory = KernelArrays(kernels.source, gates, units, dtype)
        self._functions = kernels.functions(units)
        self._has_vectors = bool(kernels.steady.cell.vectors)
        arrays = gates + len(kernels.source.states) + len(kernels.source.scratch)
        n_features = 0 if codes else len(params["U"])
        step_bytes = arrays * units * LANES * dtype.itemsize
        self.size = Size(units, gates, len(cell.matrices), n_features, step_bytes)

    def _vectors(self) -> Arrays:
        return {name: self.params[name] for name in self.kernels.cell.vectors}

    def weights(self) -> Arrays:
        """Return the weights by name, in the order of the kernels' arguments."""
        if not self._has_vectors:  # saves microseconds, which count in a small layer
            return {name: self.params[name] for name in self.kernels.source.weights}
        weights = self.kernels.steady.values(self._vectors())
        if self.kernels.cell.matrices:
            weights["V"] = self.params["V"]
        return {name: weights[name] for name in self.kernels.source.weights}

    def forward(
        self, x: Array, segment: Arrays, lengths: Lengths, plan: ExecutionPlan, share: WorkShare
    ) -> None:
        """Project the inputs and run all steps."""
        project = inputs.project_codes if self.codes else inputs.project_signal
        U, bias, memory = self.params["U"], self.params["b"], self.memory
        weights = list(self.weights().values())
        for begin, end in spans(x.shape[1], plan.steps):
            check_wanted()
            cut, left = memory.cut(segment, begin, end), memory.left(lengths, begin, end)
            for rows in rows_of_share(share, self.units, memory.gates):
                project(cut["a"][:, :, rows], x[:, begin:end], U[:, rows], bias[rows])
            barrier_between_kernels(share)
            arrays = [*weights, *memory.in_order(cut), *left]
            self._functions.forward(cut["a"], *arrays, share)

    def backward(
        self,
        segment: Arrays,
        lengths: Lengths,
        dy: Array,
        carry: list[Array],
        plan: ExecutionPlan,
        share: WorkShare,
    ) -> None:
        """Run all steps backwards; ``dy`` is for the last steps, ``carry`` for the final states."""
        memory, T = self.memory, segment["a"].shape[1]
        first, weights = T - dy.shape[1], list(self.weights().values())
        for begin, end in reversed(spans(T, plan.steps)):
            check_wanted()
            dh = dy[:, max(begin - first, 0) : max(end - first, 0)]
            cut, left = memory.cut(segment, begin, end), memory.left(lengths, begin, end)
            arrays = [*weights, *memory.in_order(cut), *left]
            self._functions.backward(cut["a"], *arrays, dh, *carry, share)

    def gradients(
        self,
        segment: Arrays,
        x: Array,
        grads: Arrays,
        dx: Array,
        plan: ExecutionPlan,
        share: WorkShare,
    ) -> None:
        """Add the gradients of the parameters after `backward` on a segment, and write dx."""
        memory = self.memory
        for begin, end in reversed(spans(x.shape[1], plan.sum_steps)):
            cut = memory.cut(segment, begin, end)
            for first, last in spans(len(x), plan.sum_tiles):
                check_wanted()
                tiles, arrays, sums = slice(first, last), cut, grads
                if last - first < len(x):
                    arrays = {k: v[tiles] for k, v in cut.items()}
                    sums = {k: v[tiles] for k, v in grads.items()}
                weights = [sums[k] for k in self.kernels.source.weights]
                self._functions.gradients(arrays["a"], *memory.in_order(arrays), *weights, share)
                index = (tiles, slice(begin, end))
                self._add_input_gradients(arrays["a"], x[index], sums, dx[index], share)

    def _add_input_gradients(
        self, da: Array, x: Array, grads: Arrays, dx: Array, share: WorkShare
    ) -> None:
        """Add the gradients of U and b, and write dx."""
        for rows in rows_of_share(share, self.units, self.memory.gates):
            dU, db = grads["U"][:, :, rows], grads["b"][:, rows]
            if self.codes:
                inputs.project_codes_backward(da[:, :, rows], x, dU)
            else:
                inputs.project_signal_gradients(da, x, dU, db, rows.start)
        if dx.shape[2]:
            steps = partition(da.shape[1], share)
            inputs.project_signal_backward(da[:, steps], self.params["U"], dx[:, steps])

    def total(self, sums: Arrays) -> Gradients:
        """Return the sums of the gradients over tiles, added in order."""
        grads = {k: v.sum(axis=0) if len(v) > 1 else v[0] for k, v in sums.items()}
        if self.codes:
            grads["b"] = grads["U"].sum(axis=0)
        if not self._has_vectors:
            return grads
        steady = self.kernels.steady
        vectors = {name: grads.pop(name) for name in steady.cell.vectors}
        return grads | steady.gradients(self._vectors(), vectors)
