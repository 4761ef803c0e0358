"""A cell in plain NumPy: the same graph, batch first, one step after another.

It is slow; it is the reference for the kernels. x is (N, T, D); U is (D, G H), b is (G H), V is
(H, M H) and vectors are (H,), with the G gates and M matrices of a cell along the last axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adjoint import differentiate
from .definition import Cell
from .functions import FUNCTIONS
from .graph import Node

Array = NDArray[Any]
Values = dict[int, Any]
_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
}


def compute(node: Node, values: Values, matrices: Mapping[str, Array]) -> Any:
    """Return the value of a node from those of its leaves; results are added to ``values``."""
    if node.index in values:
        return values[node.index]
    args = [compute(arg, values, matrices) for arg in node.args]
    if node.op == "number":
        out: Any = node.value
    elif node.op == "product":
        out = args[0] @ matrices[node.value]
    elif node.op == "transposed":
        out = sum(x @ matrices[name].T for x, name in zip(args, node.value, strict=True))
    else:
        out = (_ARITHMETIC.get(node.op) or FUNCTIONS[node.op].numpy)(*args)
    values[node.index] = out
    return out


def forward(
    cell: Cell,
    x: Array,
    params: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    mask: Array | None = None,
) -> tuple[dict[str, Array], list[Values]]:
    """Return all states, (N, T + 1, H), initial ones included, and the values of each step.

    Parameters
    ----------
    x : (N, T, D)
    params
        U, b, V and vectors by name.
    states : dict of (N, H), optional
        The states before the first step; None for 0.
    mask : (N, H), optional
        The mask of recurrent dropout, see `rewrite.with_mask`.
    """
    U, b = params["U"], params["b"]
    H = len(b) // len(cell.gates)
    before: dict[str, Array] = {
        s: np.zeros((len(x), H), x.dtype) if states is None else states[s] for s in cell.states
    }
    states_over_time = {name: [value] for name, value in before.items()}
    steps = []
    matrices = _matrices(cell, params)
    for t in range(x.shape[1]):
        a = np.split(x[:, t] @ U + b, len(cell.gates), axis=-1)
        values: Values = {}
        leaves = {("state", k): v for k, v in before.items()}
        leaves |= {("input", k): v for k, v in zip(cell.gates, a, strict=True)}
        leaves |= {} if mask is None else {("mask", "mask"): mask}
        leaves |= {("vector", k): params[k] for k in cell.vectors}
        for node in cell.nodes:
            if (node.op, node.value) in leaves:
                values[node.index] = leaves[node.op, node.value]
        after = [compute(node, values, matrices) + np.zeros_like(a[0]) for node in cell.outputs]
        before = dict(zip(cell.states, after, strict=True))
        for name, value in before.items():
            states_over_time[name].append(value)
        steps.append(values)
    return {name: np.stack(value, axis=1) for name, value in states_over_time.items()}, steps


def backward(
    cell: Cell,
    x: Array,
    steps: Sequence[Values],
    dy: Array,
    params: Mapping[str, Array],
) -> dict[str, Array]:
    """Return the gradients of x, of each parameter, and of the initial states by name.

    Parameters
    ----------
    steps
        From `forward`.
    dy : (N, T, H)
        Gradient of the output at each step.
    """
    adjoint, matrices = differentiate(cell), _matrices(cell, params)
    grads = {"x": np.zeros_like(x)} | {k: np.zeros_like(v) for k, v in params.items()}
    dW = {name: np.zeros_like(value) for name, value in matrices.items()}
    carry: dict[str, Any] = {state: np.zeros_like(dy[:, 0]) for state in cell.states}
    for t in range(x.shape[1] - 1, -1, -1):
        values = dict(steps[t])
        carry[cell.states[0]] = carry[cell.states[0]] + dy[:, t]
        for state, value in carry.items():
            values[cell.graph.make("seed", value=state).index] = value

        def at(node: Node, values: Values = values) -> Array:
            value: Array = compute(node, values, matrices) + np.zeros_like(dy[:, 0])
            return value

        da = np.concatenate([at(adjoint.inputs[gate]) for gate in cell.gates], axis=-1)
        grads["x"][:, t] = da @ params["U"].T
        grads["U"] += x[:, t].T @ da
        grads["b"] += da.sum(axis=0)
        for product, gradient in adjoint.products:
            dW[product.value] += at(product.args[0]).T @ at(gradient)
        for name, node in adjoint.vectors.items():
            grads[name] += at(node).sum(axis=0)
        carry = {s: at(adjoint.state(cell.graph, s)) for s in cell.states}
    if matrices:
        grads["V"] = np.hstack([dW[name] for name in cell.matrices])
    return grads | carry


def _matrices(cell: Cell, params: Mapping[str, Array]) -> dict[str, Array]:
    if not cell.matrices:
        return {}
    blocks = np.split(params["V"], len(cell.matrices), axis=-1)
    return dict(zip(cell.matrices, blocks, strict=True))
