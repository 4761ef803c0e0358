"""What bounds a layer on this machine: a roofline of what no order of the same work can avoid.

The machine's rates are measured first, on all threads, with loops that do nothing else. A step of
the grid then takes at least

    calls + max(products + activations, chain, bytes)

- products: multiplications and additions at the peak of fused multiply-adds;
- activations: tanh and sigmoid, which need the same units of the processor;
- chain: T steps of what must wait for each other, at the latencies of one step;
- bytes: inputs, outputs and what the way back needs, each written and read, at the rate at which as
  many bytes are read: from the caches while they fit, then from main memory;
- calls: Python and the allocation of arrays, taken from the same layer with a single time step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnjit.cells import library
from nnjit.kernels._jit import jit
from nnjit.kernels._lanes import LANES, load, store, tanh
from nnjit.runtime.threads import for_each, get_threads

from .clock import seconds
from .task import Step

CELLS = {"rnn": library.rnn, "gru": library.gru, "lstm": library.lstm}
ACTIVATIONS = {"rnn": 1, "gru": 3, "lstm": 5}  # for each unit and step
WAITS = {"rnn": 1, "gru": 2, "lstm": 2}  # activations that wait for each other in a step
FOOTPRINTS = tuple(1 << n for n in range(17, 28, 2))  # bytes of all threads, 128 KB to 128 MB


@jit
def _peak(x, n):
    v, w = load(x, 0, 0, 0), load(x, 0, 0, 1)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = v
    for _ in range(n):
        a0, a1, a2, a3 = a0 * w + v, a1 * w + v, a2 * w + v, a3 * w + v
        a4, a5, a6, a7 = a4 * w + v, a5 * w + v, a6 * w + v, a7 * w + v
    store(x, 0, 0, 2, ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)))


@jit
def _activations(x, n):
    for _ in range(n):
        for j in range(x.shape[2]):
            store(x, 0, 0, j, tanh(load(x, 0, 0, j)))


@jit
def _tanh_chain(x, n):
    v, w = load(x, 0, 0, 0), load(x, 0, 0, 1)
    for _ in range(n):
        v = tanh(v * w + w)
    store(x, 0, 0, 2, v)


@jit
def _multiply_chain(x, n):
    v, w = load(x, 0, 0, 0), load(x, 0, 0, 1)
    for _ in range(n):
        v = v * w + w
    store(x, 0, 0, 2, v)


@jit
def _read(x, n):
    for _ in range(n):
        a0 = a1 = a2 = a3 = load(x, 0, 0, 0)
        for j in range(0, x.shape[2] - 3, 4):
            a0, a1 = a0 + load(x, 0, 0, j), a1 + load(x, 0, 0, j + 1)
            a2, a3 = a2 + load(x, 0, 0, j + 2), a3 + load(x, 0, 0, j + 3)
        store(x, 0, 0, 0, (a0 + a1) + (a2 + a3))


def _best(call: Callable[[], Any], most: int = 20) -> float:
    return min(seconds(call, budget=60.0, most=most))


def _lanes(rows: int) -> np.ndarray:
    return np.full((1, 1, rows, LANES), 0.5, np.float32)


def _everywhere(kernel: Callable[[np.ndarray, int], None], rows: int, n: int) -> float:
    """Return the seconds of a pass of n when every thread makes one."""
    threads = get_threads()
    own = [_lanes(rows) for _ in range(threads)]
    return _best(lambda: for_each(lambda i: kernel(own[i], n), threads)) / n


def _read_rate(footprint: int) -> float:
    rows = footprint // (4 * LANES * get_threads())
    return footprint / _everywhere(_read, rows, max(1, (64 << 20) // footprint))


@dataclass(frozen=True)
class Machine:
    """Rates of all threads together, for float32, and latencies, in seconds."""

    flops: float
    activation: float  # of one number, in all lanes and threads at once
    tanh_latency: float
    multiply_latency: float
    reads: dict[int, float]  # bytes per second that are read out of so many

    @classmethod
    def measured(cls) -> "Machine":
        threads, n, one = get_threads(), 200_000, _lanes(3)
        return cls(
            flops=threads * 8 * 2 * LANES / _everywhere(_peak, 3, n),
            activation=_everywhere(_activations, 64, 2_000) / (64 * LANES * threads),
            tanh_latency=_best(lambda: _tanh_chain(one, n)) / n,
            multiply_latency=_best(lambda: _multiply_chain(one, n)) / n,
            reads={footprint: _read_rate(footprint) for footprint in FOOTPRINTS},
        )

    def about(self) -> dict[str, str]:
        """Return the rates in words, for the head of a table."""
        return {
            "peak": f"{self.flops / 1e9:.0f} GFLOP/s",
            "activations": f"{1e-9 / self.activation:.1f} per ns",
            "latency of tanh": f"{self.tanh_latency * 1e9:.1f} ns",
            "reads": ", ".join(
                f"{rate / 1e9:.0f} GB/s of {size >> 10} KB" for size, rate in self.reads.items()
            ),
        }

    def bound(self, step: Step, calls: float) -> dict[str, Any]:
        """Return the least seconds of a step of the grid, and which part is the largest."""
        cell = CELLS[step.cell]
        N, T, H, G = step.batch, step.n_steps, step.hidden_size, len(cell.gates)
        D = 0 if step.codes else step.n_features  # codes are looked up: no product
        passes, input_passes = (3, 2) if step.training else (1, 1)
        products = 2 * N * T * G * H * (passes * H + input_passes * D) / self.flops
        again = step.training and step.cell == "lstm"  # tanh(c) is not kept
        activations = N * T * H * (ACTIVATIONS[step.cell] + again) * self.activation
        chain = WAITS[step.cell] * self.tanh_latency + (H - 1) * self.multiply_latency
        if step.training:
            chain += G * H * self.multiply_latency
        held = 4 * N * T * ((G + len(cell.states) + 1 if step.training else 1) * H + D)
        moved = 2 * held if step.training else held
        fitting = [rate for size, rate in self.reads.items() if size >= held]
        parts = {
            "products": products,
            "activations": activations,
            "chain": T * chain,
            "bytes": moved / (fitting or [min(self.reads.values())])[0],
            "calls": calls,
        }
        work = max(products + activations, parts["chain"], parts["bytes"])
        return {"seconds": calls + work, "by": max(parts, key=lambda k: parts[k]), "parts": parts}


def bounds(steps: list[Step], make: Callable[[Step], Callable[[], None]]) -> dict[str, Any]:
    """Return the bound of each step by its name; ``make`` returns what runs a step."""
    machine = Machine.measured()
    print("  ".join(f"{key} {value}" for key, value in machine.about().items()), flush=True)
    return {s.name: machine.bound(s, _best(make(replace(s, n_steps=1)), 100)) for s in steps}
