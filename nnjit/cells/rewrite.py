"""Rewrites cells: the same equations with some values replaced."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .adjoint import local_derivatives
from .definition import Cell
from .evaluate import compute
from .graph import Graph, Node, consumers, reachable
from .writer import Names

TAKEN = ("U", "b", "carry", "d")  # in addition to the reserved names of all kernels
Change = Callable[[Graph, Node, tuple[Node, ...]], Node | None]


def rebuild(cell: Cell, change: Change, states: Mapping[str, str] | None = None) -> Cell:
    """Return a copy of a cell in a new graph.

    ``change`` takes the new graph, a node of the old one and its new arguments; it returns the
    replacement, or None for the same operation. ``states`` are new names of states.
    """
    named = states or {state: state for state in cell.states}
    graph = Graph()
    graph.tracing = False
    copies: dict[int, Node] = {}
    for node in cell.nodes:
        args = tuple(copies[arg.index] for arg in node.args)
        value = named[node.value] if node.op == "state" else node.value
        new = change(graph, node, args)
        if new is None:
            new = graph.make(node.op, *args, value=value)
        new.label = new.label or node.label
        new.place = new.place or node.place
        copies[node.index] = new
    outputs = tuple(copies[output.index] for output in cell.outputs)
    return replace(cell, graph=graph, outputs=outputs, states=tuple(named.values()))


def with_mask(cell: Cell) -> Cell:
    """Return a cell with recurrent dropout: operands of products are multiplied by ``mask``."""

    def change(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op != "product":
            return None
        return graph.make("product", args[0] * graph.make("mask", value="mask"), value=node.value)

    return rebuild(cell, change)


@final
class Steady:
    """The values of a cell that depend on weights and numbers only, computed once for each call.

    ``cell`` is the same cell with a vector in the place of each such value.
    """

    def __init__(self, cell: Cell) -> None:
        self._roots: dict[str, Node] = {}
        steady = {node.index for node in cell.nodes if node.is_steady()}
        taken_by = consumers(cell.nodes)
        names = Names(TAKEN)
        states = {state: names.fresh(state) for state in cell.states}

        def change(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node | None:
            if node.index not in steady or node.op == "number":
                return None
            inner = taken_by[node.index] and all(c.index in steady for c in taken_by[node.index])
            if inner and node not in cell.outputs:
                return None
            name = names.fresh(node.value if node.op == "vector" else node.label or "w_")
            self._roots[name] = node
            return graph.make("vector", value=name)

        self.cell = rebuild(cell, change, states)
        self._is_trivial = all(node.op == "vector" for node in self._roots.values())

    def values(self, params: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the vectors of ``cell``, (H,), from the weights."""
        if self._is_trivial:
            return {name: params[node.value] for name, node in self._roots.items()}
        values = self._leaves(params)
        size, dtype = next(iter(params.values())).shape, next(iter(params.values())).dtype
        return {
            name: np.broadcast_to(compute(node, values, {}), size).astype(dtype)
            for name, node in self._roots.items()
        }

    def gradients(
        self, params: Mapping[str, NDArray[Any]], above: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Return the gradients of the weights from those of the vectors of ``cell``."""
        if self._is_trivial:
            return {node.value: above[name] for name, node in self._roots.items()}
        values = self._leaves(params)
        nodes = reachable(list(self._roots.values()))
        received: dict[int, Any] = {node.index: 0.0 for node in nodes}
        for name, node in self._roots.items():
            received[node.index] = received[node.index] + above[name].astype(np.float64)
        gradients = {}
        for node in reversed(nodes):
            if node.op == "vector":
                gradient = received[node.index] + np.zeros(params[node.value].shape)
                gradients[node.value] = gradient.astype(params[node.value].dtype)
            elif node.op != "number":
                for arg, positive, factors in local_derivatives(node):
                    gradient = received[node.index] * (1.0 if positive else -1.0)
                    for factor in factors:
                        gradient = gradient * compute(factor, values, {})
                    received[arg.index] = received[arg.index] + gradient
        return gradients

    def _leaves(self, params: Mapping[str, NDArray[Any]]) -> dict[int, Any]:
        nodes = reachable(list(self._roots.values()))
        return {
            node.index: params[node.value].astype(np.float64)
            for node in nodes
            if node.op == "vector"
        }
