"""What layers do at every step by itself: products with weights, and activations.

Tiles and spans of steps are shared out to threads. Sums over time are taken in parts of a fixed
number of steps, which are added in order: the bits depend neither on the threads nor on how far
clips are padded.
"""

import numpy as np

from ..activations import Activation, Identity
from ..kernels.inputs import project_signal, project_signal_gradients
from ..kernels.product import GRAIN
from ..runtime.memory import empty
from ..runtime.threads import check_wanted, for_spans
from .base import Array

_STEPS = 2 * GRAIN  # of a tile at once: what a step needs stays in the caches
SUM_STEPS = 8 * GRAIN  # of a part of a sum


def blocks(tiles: int, T: int, steps: int = _STEPS) -> list[tuple[slice, slice]]:
    """Return all steps of all tiles, some of one tile at a time."""
    return [
        (slice(i, i + 1), slice(begin, min(begin + steps, T)))
        for i in range(tiles)
        for begin in range(0, T, steps)
    ]


def add_in_order(parts: Array) -> Array:
    """Return the sum of ``parts``, (n, ...), the first one first, in their first place."""
    for part in parts[1:]:
        parts[0] += part
    total: Array = parts[0]
    return total


def project(out: Array, x: Array, W: Array, b: Array | None = None) -> None:
    """Write ``W.T @ x + b`` to ``out``, (tiles, T, M, LANES); x is (tiles, T, K, LANES)."""
    parts, bias = blocks(*out.shape[:2]), np.zeros(W.shape[1], W.dtype) if b is None else b

    def run(first: int, last: int) -> None:
        for part in parts[first:last]:
            check_wanted()
            project_signal(out[part], x[part], W, bias)

    for_spans(run, len(parts), float(x.shape[2]) * out.size)


def project_gradients(dz: Array, x: Array) -> tuple[Array, Array]:
    """Return the gradients of W and b of `project`, from that of what it wrote."""
    parts, M = blocks(len(dz), dz.shape[1], SUM_STEPS), dz.shape[2]
    dW = np.zeros((len(parts), x.shape[2], M), dz.dtype)
    db = np.zeros((len(parts), M), dz.dtype)

    def run(first: int, last: int) -> None:
        for n in range(first, last):
            check_wanted()
            one, part = slice(n, n + 1), parts[n]
            project_signal_gradients(dz[part], x[part], dW[one], db[one], 0)

    for_spans(run, len(parts), float(x.shape[2]) * dz.size)
    return add_in_order(dW), add_in_order(db)


def activate(activation: Activation, z: Array) -> Array:
    """Return ``activation.forward(z)``, (tiles, T, M, LANES)."""
    if isinstance(activation, Identity):
        return z
    y, parts = empty(z.shape, z.dtype), blocks(*z.shape[:2])

    def run(first: int, last: int) -> None:
        for part in parts[first:last]:
            y[part] = activation.forward(z[part])

    for_spans(run, len(parts), z.size)
    return y


def activate_backward(activation: Activation, dy: Array, y: Array, z: Array) -> Array:
    """Return ``activation.backward(dy, y, z)``."""
    if isinstance(activation, Identity):
        return dy
    dz, parts = empty(z.shape, z.dtype), blocks(*z.shape[:2])

    def run(first: int, last: int) -> None:
        for part in parts[first:last]:
            dz[part] = activation.backward(dy[part], y[part], z[part])

    for_spans(run, len(parts), z.size)
    return dz
