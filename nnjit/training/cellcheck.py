"""Checks of a cell: kernels against NumPy, gradients against differences, and equal bits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numba
import numpy as np
from numpy.typing import NDArray

from ..cells import evaluate
from ..cells.definition import Cell
from ..cells.named import named
from ..cells.rewrite import with_mask
from ..kernels._lanes import LANES
from ..layers import Bptt, Codes, Recurrent, Signal

Array = NDArray[Any]
_LEVELS, _FEATURES, _SMALL = 7, 3, 1e-7


@final
@dataclass(frozen=True)
class Finding:
    """The result of a check: ``error`` is empty if it passed."""

    name: str
    error: str


def check_cell(cell: Any, seed: int = 0, quiet: bool = False) -> bool:
    """Check a cell as nnjit's own cells are checked, print the results, return whether all passed.

    Layers of 1, 3 and 17 units are compared with the equations in NumPy, their gradients with
    central differences in float64, codes with one-hot vectors, recurrent dropout with NumPy.
    Checkpoints, threads, teams, the size of the batch, padding and pieces of time must not change
    any bit, and NaN in one clip must not change another.

    Parameters
    ----------
    cell
        As in `nnjit.layers.Recurrent`.
    seed
        The seed of inputs.
    quiet
        Print nothing.

    Raises
    ------
    CellError
        If there is no such cell, or its equations cannot be compiled.
    """
    findings = []
    checked = named(cell)
    for check, sizes in _CHECKS:
        error = ""
        for H in sizes:
            try:
                with np.errstate(all="ignore"):
                    check(_Case(checked, H, seed))
            except AssertionError as failure:
                error = f"{H} units: {failure}"
                break
        findings.append(Finding(str(check.__doc__).rstrip("."), error))
        if not quiet:
            print(f"{'FAIL' if error else 'ok':5} {findings[-1].name}{': ' * bool(error)}{error}")
    passed = not any(finding.error for finding in findings)
    if not quiet:
        print(f"{checked.name}: {'all is well' if passed else 'not to be trusted'}")
    return passed


@final
class _Case:
    """Layers of one cell, inputs and gradients for them."""

    def __init__(self, cell: Cell, hidden_size: int, seed: int) -> None:
        self.cell, self.H = cell, hidden_size
        self.rng = np.random.default_rng(seed)

    def layer(
        self,
        dtype: str = "float64",
        codes: int = 0,
        n_steps: int | None = 1,
        recurrent_dropout: float = 0.0,
    ) -> Recurrent:
        """Return a layer with parameters that keep most cells from exploding."""
        layer = Recurrent(
            self.cell, self.H, return_sequences=True, recurrent_dropout=recurrent_dropout
        )
        spec = Codes(n_steps, codes) if codes else Signal(n_steps, _FEATURES)
        rng = np.random.default_rng(1)
        layer.build(spec, rng, np.dtype(dtype))
        for name, value in layer.params.items():
            if name not in self.cell.starts:
                scale = 0.6 / np.sqrt(len(value)) if value.ndim == 2 else 0.3
                value[:] = rng.normal(0, scale, value.shape)
        return layer

    def inputs(self, N: int, T: int) -> tuple[Array, Array]:
        """Return signals and a gradient of all outputs."""
        return self.rng.normal(size=(N, T, _FEATURES)), self.rng.normal(size=(N, T, self.H))


def to_tiles(x: Array) -> Array:
    """Turn (N, ...) into (tiles, ..., LANES), with zeros in the lanes beyond N."""
    padded = np.concatenate([x, np.zeros((-len(x) % LANES, *x.shape[1:]), x.dtype)])
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, LANES, *x.shape[1:]), 1, -1))


def from_tiles(y: Array, N: int) -> Array:
    """Turn (tiles, ..., LANES) into (N, ...)."""
    return np.moveaxis(y, -1, 1).reshape(-1, *y.shape[1:-1])[:N].copy()


def run(layer: Recurrent, x: Array, dy: Array | None = None, **options: Any) -> dict[str, Array]:
    """Return the outputs y, and with ``dy`` the gradients of x (not of codes) and parameters.

    ``options`` are those of `Recurrent.forward`.
    """
    dtype = layer.params["U"].dtype
    tiles = to_tiles(x if x.dtype == np.uint8 else x.astype(dtype))
    y, cache = layer.forward(tiles, training=dy is not None, **options)
    actual = {"y": from_tiles(y, len(x))}
    if dy is not None:
        dx, grads = layer.backward(to_tiles(dy.astype(dtype)), cache)
        actual |= {f"d{name}": value for name, value in grads.items()}
        if dx is not None:
            actual["dx"] = from_tiles(dx, len(x))
    return actual


def expected(layer: Recurrent, x: Array, dy: Array, mask: Array | None = None) -> dict[str, Array]:
    """Return the results of `run` from the equations in NumPy, in float64, with a dropout mask."""
    cell = layer.cell if mask is None else with_mask(layer.cell)
    params = {name: value.astype(np.float64) for name, value in layer.params.items()}
    states, steps = evaluate.forward(cell, x, params, mask=mask)
    grads = evaluate.backward(cell, x, steps, dy, params)
    names = ["x", *params]
    return {"y": states[layer.cell.states[0]][:, 1:], **{f"d{k}": grads[k] for k in names}}


def _compare(actual: dict[str, Array], reference: dict[str, Array], tolerance: float) -> None:
    for name in actual.keys() & reference.keys():
        wrong = np.abs(actual[name] - reference[name]) / (1 + np.abs(reference[name]))
        assert wrong.max() < tolerance, f"{name} is off by {wrong.max():.1e}"


def _same_bits(runs: list[dict[str, Array]], changes: str) -> None:
    for other in runs[1:]:
        for name, value in runs[0].items():
            assert np.array_equal(value, other[name], equal_nan=True), f"{changes} change {name}"


def _equals_numpy(case: _Case) -> None:
    """Compare outputs and gradients with the equations in NumPy."""
    for dtype, tolerance in (("float64", 1e-9), ("float32", 3e-3)):
        for N, T in ((1, 1), (5, 2), (19, 130)):
            layer, (x, dy) = case.layer(dtype), case.inputs(N, T)
            reference = expected(layer, x, dy)
            sizes = [np.abs(value).max() for value in reference.values()]
            assert N > 1 or np.isfinite(sizes).all(), "values of one step are not finite"
            if all(size < 1e6 for size in sizes):
                _compare(run(layer, x, dy), reference, tolerance)


def _equals_differences(case: _Case) -> None:
    """Compare gradients with central differences, in float64."""
    layer, (x, dy) = case.layer(), case.inputs(3, 4)
    actual = run(layer, x, dy)
    for name, array in {**layer.params, "x": x}.items():
        for flat in case.rng.choice(array.size, min(array.size, 4), replace=False):
            index = np.unravel_index(flat, array.shape)
            before, sums = array[index], []
            for step in (_SMALL, -_SMALL):
                array[index] = before + step
                sums.append((run(layer, x)["y"] * dy).sum())
            array[index] = before
            reference = (sums[0] - sums[1]) / (2 * _SMALL)
            wrong = abs(actual[f"d{name}"][index] - reference) / (1 + abs(reference))
            assert wrong < 1e-5, f"the gradient of {name} is off by {wrong:.1e}"


def _codes_equal_vectors(case: _Case) -> None:
    """Compare codes with their one-hot vectors."""
    codes = case.rng.integers(0, _LEVELS, (5, 9), np.uint8)
    dy = case.rng.normal(size=(5, 9, case.H))
    layer = case.layer(codes=_LEVELS)
    _compare(run(layer, codes, dy), expected(layer, np.eye(_LEVELS)[codes], dy), 1e-9)


def _cuts_leave_bits(case: _Case) -> None:
    """Change checkpoints, groups and teams; every bit must stay."""
    layer, (x, dy) = case.layer("float32"), case.inputs(35, 260)
    runs = []
    for checkpoint in ("off", 128):
        layer.bptt = Bptt(checkpoint)
        runs.append(run(layer, x, dy))
    plan = layer._plan(3, 260)
    plans = [replace(plan, groups=(slice(0, 1), slice(1, 3)), steps=128, sum_steps=128)]
    if case.H > LANES and not numba.config.DISABLE_JIT:  # barriers exist in compiled code only
        plans.append(replace(plan, groups=(slice(0, 3),), team=2))
    for other in plans:
        layer._plan = lambda tiles, T, other=other: other  # type: ignore[method-assign, misc]
        runs.append(run(layer, x, dy))
    _same_bits(runs, "checkpoints, groups or teams")


def _clips_are_independent(case: _Case) -> None:
    """Run some clips without the others, and put NaN in one; the bits of the others must stay."""
    layer, (x, dy) = case.layer("float32"), case.inputs(18, 5)
    actual = run(layer, x, dy)
    last_clip = run(layer, x[17:], dy[17:])
    _same_bits([{"y": actual["y"][17:], "dx": actual["dx"][17:]}, last_clip], "other clips")
    x[3, 2] = np.nan
    with_nan, others = run(layer, x, dy), np.arange(18) != 3
    for name in ("y", "dx"):
        pair = [{name: results[name][others]} for results in (actual, with_nan)]
        _same_bits(pair, "NaN of another clip")


def _dropout_equals_numpy(case: _Case) -> None:
    """Compare recurrent dropout with the equations in NumPy."""
    if not case.cell.matrices:
        return
    layer, (x, dy) = case.layer(recurrent_dropout=0.5), case.inputs(5, 6)
    drawn = np.random.default_rng(2).random((1, case.H, LANES), np.float32)
    mask = from_tiles(2.0 * (drawn >= 0.5), 5)
    _compare(run(layer, x, dy, rng=np.random.default_rng(2)), expected(layer, x, dy, mask), 1e-9)


def _padding_leaves_bits(case: _Case) -> None:
    """Batch a clip with longer ones, with noise after its end; its bits must stay."""
    layer, (x, dy) = case.layer("float32", n_steps=None), case.inputs(18, 9)
    lengths = np.arange(18) % 9 + 1
    dy[np.arange(9) >= lengths[:, None]] = 0
    actual = run(layer, x, dy, lengths=to_tiles(lengths))
    for n, T in ((3, 4), (17, 9)):
        single = run(layer, x[n : n + 1, :T], dy[n : n + 1, :T])
        _same_bits([{k: actual[k][n : n + 1, :T] for k in ("y", "dx")}, single], "other lengths")


def _pieces_leave_bits(case: _Case) -> None:
    """Run a sequence in pieces, each from the last state of the one before; every bit must stay."""
    layer, (x, _) = case.layer("float32"), case.inputs(18, 40)
    tiles = to_tiles(x.astype(np.float32))
    state, outputs = None, []
    for piece in (tiles[:, :1], tiles[:, 1:18], tiles[:, 18:]):
        y, state, _ = layer.scan(np.ascontiguousarray(piece), state)
        outputs.append(y)
    _same_bits([{"y": layer.scan(tiles)[0]}, {"y": np.concatenate(outputs, axis=1)}], "pieces")


_CHECKS: list[tuple[Callable[[_Case], None], tuple[int, ...]]] = [
    (_equals_numpy, (1, 3, 17)),
    (_equals_differences, (1, 3)),
    (_codes_equal_vectors, (1, 3)),
    (_cuts_leave_bits, (1, 17)),
    (_clips_are_independent, (1, 3)),
    (_dropout_equals_numpy, (1, 3)),
    (_padding_leaves_bits, (1, 3)),
    (_pieces_leave_bits, (1, 3)),
]
