"""Check a cell: its kernels against NumPy, its gradients against central differences, its bits."""

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
    """What a check found: ``error`` is empty where all is as it must be."""

    name: str
    error: str


def check_cell(cell: Any, seed: int = 0, quiet: bool = False) -> bool:
    """Check a cell as nnjit's own are checked, print what was found, return whether all is well.

    Layers of 1, 3 and 17 units are compared with the equations in NumPy, their gradients with
    central differences in float64, codes with one-hot vectors, recurrent dropout with NumPy;
    checkpoints, threads, teams, the size of the batch, padding and pieces of time must leave every
    bit, and NaN must stay in its clip.

    Parameters
    ----------
    cell
        As `nnjit.layers.Recurrent` takes it.
    seed
        Of the parameters and inputs, which are drawn.
    quiet
        Print nothing.

    Raises
    ------
    CellError
        Where there is no such cell, or its equations cannot be compiled.
    """
    findings = []
    made = named(cell)
    for check, sizes in _CHECKS:
        error = ""
        for H in sizes:
            try:
                with np.errstate(all="ignore"):
                    check(_Case(made, H, seed))
            except AssertionError as wrong:
                error = f"{H} units: {wrong}"
                break
        findings.append(Finding(str(check.__doc__).rstrip("."), error))
        if not quiet:
            print(f"{'FAIL' if error else 'ok':5} {findings[-1].name}{': ' * bool(error)}{error}")
    passed = not any(finding.error for finding in findings)
    if not quiet:
        print(f"{made.name}: {'all is well' if passed else 'not to be trusted'}")
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
    found = {"y": from_tiles(y, len(x))}
    if dy is not None:
        dx, grads = layer.backward(to_tiles(dy.astype(dtype)), cache)
        found |= {f"d{name}": value for name, value in grads.items()}
        if dx is not None:
            found["dx"] = from_tiles(dx, len(x))
    return found


def expected(layer: Recurrent, x: Array, dy: Array, mask: Array | None = None) -> dict[str, Array]:
    """Return the same from the equations in NumPy, in float64; ``mask`` is that of dropout."""
    cell = layer.cell if mask is None else with_mask(layer.cell)
    params = {name: value.astype(np.float64) for name, value in layer.params.items()}
    states, steps = evaluate.forward(cell, x, params, mask=mask)
    grads = evaluate.backward(cell, x, steps, dy, params)
    names = ["x", *params]
    return {"y": states[layer.cell.states[0]][:, 1:], **{f"d{k}": grads[k] for k in names}}


def _compare(found: dict[str, Array], wanted: dict[str, Array], tolerance: float) -> None:
    for name in found.keys() & wanted.keys():
        wrong = np.abs(found[name] - wanted[name]) / (1 + np.abs(wanted[name]))
        assert wrong.max() < tolerance, f"{name} is off by {wrong.max():.1e}"


def _same_bits(runs: list[dict[str, Array]], what: str) -> None:
    for other in runs[1:]:
        for name, value in runs[0].items():
            assert np.array_equal(value, other[name], equal_nan=True), f"{what} change {name}"


def _equals_numpy(case: _Case) -> None:
    """Compare outputs and gradients with the equations in NumPy."""
    for dtype, tolerance in (("float64", 1e-9), ("float32", 3e-3)):
        for N, T in ((1, 1), (5, 2), (19, 130)):
            layer, (x, dy) = case.layer(dtype), case.inputs(N, T)
            wanted = expected(layer, x, dy)
            sizes = [np.abs(value).max() for value in wanted.values()]
            assert N > 1 or np.isfinite(sizes).all(), "values of one step are not finite"
            if all(size < 1e6 for size in sizes):
                _compare(run(layer, x, dy), wanted, tolerance)


def _equals_differences(case: _Case) -> None:
    """Compare gradients with central differences, in float64."""
    layer, (x, dy) = case.layer(), case.inputs(3, 4)
    found = run(layer, x, dy)
    for name, array in {**layer.params, "x": x}.items():
        for flat in case.rng.choice(array.size, min(array.size, 4), replace=False):
            index = np.unravel_index(flat, array.shape)
            before, sums = array[index], []
            for step in (_SMALL, -_SMALL):
                array[index] = before + step
                sums.append((run(layer, x)["y"] * dy).sum())
            array[index] = before
            wanted = (sums[0] - sums[1]) / (2 * _SMALL)
            wrong = abs(found[f"d{name}"][index] - wanted) / (1 + abs(wanted))
            assert wrong < 1e-5, f"the gradient of {name} is off by {wrong:.1e}"


def _codes_equal_vectors(case: _Case) -> None:
    """Compare codes with their one-hot vectors."""
    codes = case.rng.integers(0, _LEVELS, (5, 9), np.uint8)
    dy = case.rng.normal(size=(5, 9, case.H))
    layer = case.layer(codes=_LEVELS)
    _compare(run(layer, codes, dy), expected(layer, np.eye(_LEVELS)[codes], dy), 1e-9)


def _cuts_leave_bits(case: _Case) -> None:
    """Change checkpoints, groups and teams: every bit stays."""
    layer, (x, dy) = case.layer("float32"), case.inputs(35, 260)
    runs = []
    for checkpoint in ("off", 128):
        layer.bptt = Bptt(checkpoint)
        runs.append(run(layer, x, dy))
    plan = layer._plan(3, 260)
    plans = [replace(plan, groups=(slice(0, 1), slice(1, 3)), steps=128, sum_steps=128)]
    if case.H > LANES and not numba.config.DISABLE_JIT:  # threads meet in compiled code alone
        plans.append(replace(plan, groups=(slice(0, 3),), team=2))
    for other in plans:
        layer._plan = lambda tiles, T, other=other: other  # type: ignore[method-assign, misc]
        runs.append(run(layer, x, dy))
    _same_bits(runs, "checkpoints, groups or teams")


def _clips_stand_alone(case: _Case) -> None:
    """Run some clips without the others, and spoil one with NaN: the bits of the others stay."""
    layer, (x, dy) = case.layer("float32"), case.inputs(18, 5)
    found = run(layer, x, dy)
    alone = run(layer, x[17:], dy[17:])
    _same_bits([{"y": found["y"][17:], "dx": found["dx"][17:]}, alone], "other clips")
    x[3, 2] = np.nan
    spoilt, others = run(layer, x, dy), np.arange(18) != 3
    for name in ("y", "dx"):
        _same_bits([{name: run_[name][others]} for run_ in (found, spoilt)], "NaN of another clip")


def _dropout_equals_numpy(case: _Case) -> None:
    """Compare recurrent dropout with the equations in NumPy."""
    if not case.cell.matrices:
        return
    layer, (x, dy) = case.layer(recurrent_dropout=0.5), case.inputs(5, 6)
    drawn = np.random.default_rng(2).random((1, case.H, LANES), np.float32)
    mask = from_tiles(2.0 * (drawn >= 0.5), 5)
    _compare(run(layer, x, dy, rng=np.random.default_rng(2)), expected(layer, x, dy, mask), 1e-9)


def _padding_leaves_bits(case: _Case) -> None:
    """Take clips of other lengths beside one, with noise behind its end: its bits stay."""
    layer, (x, dy) = case.layer("float32", n_steps=None), case.inputs(18, 9)
    lengths = np.arange(18) % 9 + 1
    dy[np.arange(9) >= lengths[:, None]] = 0
    found = run(layer, x, dy, lengths=to_tiles(lengths))
    for n, T in ((3, 4), (17, 9)):
        alone = run(layer, x[n : n + 1, :T], dy[n : n + 1, :T])
        _same_bits([{k: found[k][n : n + 1, :T] for k in ("y", "dx")}, alone], "other lengths")


def _pieces_leave_bits(case: _Case) -> None:
    """Take a sequence in pieces, each from the state behind the one before: every bit stays."""
    layer, (x, _) = case.layer("float32"), case.inputs(18, 40)
    tiles = to_tiles(x.astype(np.float32))
    state, parts = None, []
    for piece in (tiles[:, :1], tiles[:, 1:18], tiles[:, 18:]):
        part, state, _ = layer.scan(np.ascontiguousarray(piece), state)
        parts.append(part)
    _same_bits([{"y": layer.scan(tiles)[0]}, {"y": np.concatenate(parts, axis=1)}], "pieces")


_CHECKS: list[tuple[Callable[[_Case], None], tuple[int, ...]]] = [
    (_equals_numpy, (1, 3, 17)),
    (_equals_differences, (1, 3)),
    (_codes_equal_vectors, (1, 3)),
    (_cuts_leave_bits, (1, 17)),
    (_clips_stand_alone, (1, 3)),
    (_dropout_equals_numpy, (1, 3)),
    (_padding_leaves_bits, (1, 3)),
    (_pieces_leave_bits, (1, 3)),
]
