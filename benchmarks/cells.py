"""``python -m benchmarks.cells``: your own cells against the same in PyTorch and JAX.

Each is written with `nnjit.cells.cell`, as a Python loop with autograd in PyTorch, the same with
its step compiled by `torch.compile`, and as a jitted `lax.scan` in JAX: 16 clips of 500 steps of 16
features, all states, and while training all gradients of the parameters. The input projection is
one product for all steps on every side. Results go to cells.json and into docs/cells.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnjit import layers
from nnjit.cells import cell, sigmoid, tanh
from nnjit.kernels._lanes import LANES
from nnjit.layers import Signal

from . import small
from .__main__ import sides

N_STEPS, N_FEATURES = 500, 16


@cell
def two_states(x, h, c, W, w):
    """Three gates, two states and a vector of weights: in no library."""
    f = sigmoid(x.f + h @ W.f + w.p * c)
    g = tanh(x.g + (f * h) @ W.g)
    c = f * c + (1 - f) * g
    o = sigmoid(x.o + h @ W.o)
    return o * tanh(c), c


def _gru(m: Any, x: Any, h: Any, W: Any, w: Any) -> Any:
    z, r = m.sigmoid(x["z"] + h @ W["z"]), m.sigmoid(x["r"] + h @ W["r"])
    g = m.tanh(x["g"] + (r * h) @ W["g"])
    return (z * h + (1 - z) * g,)


def _two_states(m: Any, x: Any, h: Any, c: Any, W: Any, w: Any) -> Any:
    f = m.sigmoid(x["f"] + h @ W["f"] + w["p"] * c)
    g = m.tanh(x["g"] + (f * h) @ W["g"])
    c = f * c + (1 - f) * g
    return m.sigmoid(x["o"] + h @ W["o"]) * m.tanh(c), c


def _min_gru(m: Any, x: Any, h: Any, W: Any, w: Any) -> Any:
    z = m.sigmoid(x["z"])
    return ((1 - z) * h + z * x["h"],)


def _indrnn(m: Any, x: Any, h: Any, W: Any, w: Any) -> Any:
    return (m.relu(x["h"] + w["u"] * h),)


def _lru(m: Any, x: Any, y: Any, re: Any, im: Any, W: Any, w: Any) -> Any:
    modulus, angle = m.exp(-m.exp(w["nu"])), m.exp(w["theta"])
    a, b, gamma = modulus * m.cos(angle), modulus * m.sin(angle), m.sqrt(1 - modulus * modulus)
    re, im = a * re - b * im + gamma * x["re"], a * im + b * re + gamma * x["im"]
    return w["c_re"] * re - w["c_im"] * im + x["skip"], re, im


STEPS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "gru": ("gru", _gru),
    "two_states": (two_states, _two_states),
    "min_gru": ("min_gru", _min_gru),
    "indrnn": ("indrnn", _indrnn),
    "lru": ("lru", _lru),
}


def layer_of(name: str, H: int) -> Any:
    """Return nnjit's layer, built: its parameters are those of all sides."""
    layer = layers.Recurrent(STEPS[name][0], H, return_sequences=True)
    layer.is_first = True
    layer.build(Signal(N_STEPS, N_FEATURES), np.random.default_rng(0), np.dtype(np.float32))
    return layer


def data(H: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (T, N, D) and the gradient of all states (T, N, H)."""
    rng = np.random.default_rng(1)
    shape = (N_STEPS, LANES)
    x, dy = rng.normal(size=(*shape, N_FEATURES)), rng.normal(size=(*shape, H))
    return x.astype(np.float32), dy.astype(np.float32)


def nnjit_call(name: str, H: int, training: bool) -> Callable[[], Any]:
    """Return what runs nnjit's layer."""
    layer, (x, dy) = layer_of(name, H), data(H)
    x, dy = (np.ascontiguousarray(v.transpose(0, 2, 1))[None] for v in (x, dy))

    def train() -> Any:
        return layer.backward(dy, layer.forward(x, training=True)[1])[1]

    return train if training else lambda: layer.forward(x)[0]


def split(layer: Any, a: Any, params: Any) -> tuple[list[Any], Any, Any]:
    """Return the projections of all gates, the matrices and the vectors by name."""
    made, H = layer.cell, layer.hidden_size
    gates = [a[..., k * H : (k + 1) * H] for k in range(len(made.gates))]
    W = {m: params["V"][:, k * H : (k + 1) * H] for k, m in enumerate(made.matrices)}
    return gates, W, {v: params[v] for v in made.vectors}


def torch_call(name: str, H: int, training: bool, compiled: bool = False) -> Callable[[], Any]:
    """Return what runs PyTorch's Python loop, on a step that is compiled or not."""
    import torch

    def one_step(*arguments: Any) -> Any:
        return STEPS[name][1](torch, *arguments)

    if compiled:
        torch.compiler.reset()
        one_step = torch.compile(one_step, dynamic=False)
    layer, (x, dy) = layer_of(name, H), map(torch.from_numpy, data(H))
    params = {k: torch.tensor(v, requires_grad=True) for k, v in layer.params.items()}

    def run() -> Any:
        gates, W, w = split(layer, x @ params["U"] + params["b"], params)
        states = [torch.zeros(LANES, H) for _ in layer.cell.states]
        outputs = []
        for rows in zip(*(gate.unbind() for gate in gates), strict=True):
            step = dict(zip(layer.cell.gates, rows, strict=True))
            states = one_step(step, *states, W, w)
            outputs.append(states[0])
        return torch.stack(outputs)

    def train() -> Any:
        for value in params.values():
            value.grad = None
        run().backward(dy)
        return {k: value.grad for k, value in params.items()}

    return train if training else torch.inference_mode()(run)


def jax_call(name: str, H: int, training: bool) -> Callable[[], Any]:
    """Return what runs JAX's jitted scan."""
    import jax
    import jax.numpy as jnp

    class Maths:
        sigmoid, relu, tanh, exp = jax.nn.sigmoid, jax.nn.relu, jnp.tanh, jnp.exp
        cos, sin, sqrt = jnp.cos, jnp.sin, jnp.sqrt

    layer, (x, dy) = layer_of(name, H), map(jnp.asarray, data(H))
    values = {k: jnp.asarray(v) for k, v in layer.params.items()}

    def run(params: Any) -> Any:
        gates, W, w = split(layer, x @ params["U"] + params["b"], params)

        def step(states: Any, rows: Any) -> Any:
            states = STEPS[name][1](Maths, rows, *states, W, w)
            return states, states[0]

        first = tuple(jnp.zeros((LANES, H)) for _ in layer.cell.states)
        return jax.lax.scan(step, first, dict(zip(layer.cell.gates, gates, strict=True)))[1]

    compiled = jax.jit(jax.grad(lambda params: (run(params) * dy).sum()) if training else run)
    return lambda: jax.block_until_ready(compiled(values))


def torch_compile_call(name: str, H: int, training: bool) -> Callable[[], Any]:
    """Return what runs PyTorch's Python loop on a compiled step."""
    return torch_call(name, H, training, compiled=True)


CALLS = {
    "nnjit": nnjit_call,
    "torch": torch_call,
    "torch_compile": torch_compile_call,
    "jax": jax_call,
}


def main() -> None:
    parser = small.parser("cells", __doc__)
    parser.add_argument("--sides", default=",".join(CALLS), help="which sides, nnjit first")
    options, installed = parser.parse_args(), sides()
    chosen = [s for s in options.sides.split(",") if s.removesuffix("_compile") in installed]

    def calls(name: str, H: int, training: bool) -> small.Calls:
        return {side: (lambda s=side: CALLS[s](name, H, training)) for side in chosen}

    tasks = (
        (f"{name} H={H} {mode}", calls(name, H, mode == "training"))
        for mode in ("training", "inference")
        for name in STEPS
        for H in map(int, options.sizes.split(","))
    )
    small.run("cells", options, {n: s.version() for n, s in installed.items()}, tasks)


if __name__ == "__main__":
    main()
