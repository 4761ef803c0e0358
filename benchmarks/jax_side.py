"""JAX, jitted: a scan over time; codes look rows up instead of being one-hot vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .task import (
    BATCH,
    DROPOUT,
    LEARNING_RATE,
    LEVELS,
    N_BATCHES,
    N_STEPS,
    UNITS,
    Recipe,
    Step,
    clips,
)

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def version() -> str:
    return jax.__version__


def _rnn(V: Any, state: Any, a: Any) -> tuple[Any, Any]:
    h = jnp.tanh(a + state @ V)
    return h, h


def _gru(V: Any, h: Any, a: Any) -> tuple[Any, Any]:
    H = h.shape[-1]
    zr = jax.nn.sigmoid(a[:, : 2 * H] + h @ V[:, : 2 * H])
    z, r = zr[:, :H], zr[:, H:]
    g = jnp.tanh(a[:, 2 * H :] + (r * h) @ V[:, 2 * H :])
    h = z * h + (1 - z) * g
    return h, h


def _lstm(V: Any, state: Any, a: Any) -> tuple[Any, Any]:
    h, c = state
    H = h.shape[-1]
    s = a + h @ V
    f, i, o = (jax.nn.sigmoid(s[:, k * H : (k + 1) * H]) for k in range(3))
    c = f * c + i * jnp.tanh(s[:, 3 * H :])
    h = o * jnp.tanh(c)
    return (h, c), h


CELLS = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def _states(cell: str, params: dict[str, Any], x: Any) -> Any:
    """All states, (T, N, H), of codes (T, N) or signals (T, N, D)."""
    U, V, b = params["U"], params["V"], params["b"]
    a = (U[x] if x.ndim == 2 else x @ U) + b
    h = jnp.zeros((x.shape[1], V.shape[0]))
    start = (h, h) if cell == "lstm" else h
    return jax.lax.scan(lambda state, row: CELLS[cell](V, state, row), start, a)[1]


def _init(cell: str, inputs: int, H: int) -> dict[str, Any]:
    rng, G = np.random.default_rng(0), GATES[cell] * H
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[0]), jnp.float32)  # noqa: E731
    return {"U": draw(inputs, G), "V": draw(H, G), "b": jnp.zeros(G)}


def epoch(recipe: Recipe) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    codes, labels = clips()
    inputs = N_STEPS if recipe.cell else N_STEPS * LEVELS
    params = {
        "W1": jnp.asarray(rng.normal(size=(inputs, UNITS)) / np.sqrt(inputs), jnp.float32),
        "b1": jnp.zeros(UNITS),
        "W2": jnp.asarray(rng.normal(size=(UNITS, 2)) / 8, jnp.float32),
        "b2": jnp.zeros(2),
    }
    if recipe.cell:
        params |= _init(recipe.cell, LEVELS, 1)
    x, y = jnp.asarray(codes), jnp.asarray(np.eye(2, dtype=np.float32)[labels])
    rows_of_step = jnp.arange(N_STEPS) * LEVELS

    def loss(params: Any, batch: Any, targets: Any, key: Any) -> Any:
        if recipe.cell:
            flat = _states(recipe.cell, params, batch.T)[..., 0].T
            z = flat @ params["W1"]
        else:
            z = params["W1"][rows_of_step + batch].sum(axis=1)
        z = jax.nn.relu(z + params["b1"])
        z = jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, z.shape), z / (1 - DROPOUT), 0)
        p = jax.nn.softmax(z @ params["W2"] + params["b2"])
        return ((p - targets) ** 2).mean(axis=1).sum()

    def update(params: Any, rows: Any, key: Any) -> Any:
        grads = jax.grad(loss)(params, x[rows].astype(jnp.int32), y[rows], key)
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, grads)

    compiled = jax.jit(update, donate_argnums=0)
    state = {"params": params, "key": jax.random.PRNGKey(0)}

    def run() -> None:
        order = rng.permutation(len(codes))
        for i in range(N_BATCHES):
            state["key"], key = jax.random.split(state["key"])
            state["params"] = compiled(state["params"], order[i * BATCH : (i + 1) * BATCH], key)
        jax.block_until_ready(state["params"])

    return run


def step(step: Step) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    params = _init(step.cell, step.n_features, step.hidden_size)
    shape = (step.n_steps, step.batch)
    x = (
        jnp.asarray(rng.integers(0, step.n_features, shape), jnp.int32)
        if step.codes
        else jnp.asarray(rng.normal(size=(*shape, step.n_features)), jnp.float32)
    )
    dy = jnp.asarray(rng.normal(size=(*shape, step.hidden_size)), jnp.float32)
    forward = jax.jit(lambda params: _states(step.cell, params, x))
    gradient = jax.jit(jax.grad(lambda params: (_states(step.cell, params, x) * dy).sum()))
    compiled = gradient if step.training else forward

    def run() -> None:
        jax.block_until_ready(compiled(params))

    return run
