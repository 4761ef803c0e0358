"""Kernels of a cell for one unit, whose states stay in registers from step to step."""

from typing import final

from .graph import Node
from .indexing import carry_of, seed_name
from .layout import Layout
from .writer import Body, Names, Store, indented


def _load(array: str, time: str, k: int = 0) -> str:
    return f"load({array}, n, {time}, {k})"


def _store(array: str, time: str, k: int = 0) -> str:
    return f"store({array}, n, {time}, {k}, {{}})"


@final
class OneUnit:
    """The forward and backward kernels of one cell; recurrent weights are numbers."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.cell, self.adjoint = layout, layout.cell, layout.adjoint
        self._columns = {name: m for m, name in enumerate(self.cell.matrices)}

    def _leaves(self) -> dict[int, str]:
        nodes = self.cell.nodes
        leaves = {n.index: f"{n.value}[0]" for n in nodes if n.op == "vector"}
        return leaves | {n.index: _load(str(n.value), "0") for n in nodes if n.op == "mask"}

    def _body(self, names: Names, available: dict[int, str], late: list[Node]) -> Body:
        body = Body(names, available, chain=True, late=[node.index for node in late])
        return body.with_matrices(self._columns)

    def forward_step(self, names: Names) -> list[str]:
        """Return the body of the function of one step."""
        cell, layout = self.cell, self.layout
        available, late = self._leaves(), []
        for node in cell.nodes:
            if node.op == "state":
                available[node.index] = old_name(str(node.value))
                late.append(node)
        stores: list[Store] = []
        for k, row in enumerate(layout.rows):
            available[row.input.index] = _load("a", "t", k)
            activation = layout.stored_activation(row)
            if activation is not None:
                stores.append((_store("a", "t", k), activation))
        for state, output in zip(cell.states, cell.outputs, strict=True):
            stores.append((layout.while_left(_store(state, "t + 1"), old_name(state)), output))
        states = [layout.while_left("{}", old_name(state)) for state in cell.states]
        results = list(zip(states, cell.outputs, strict=True))
        return self._body(names, available, late).lines(stores, results)

    def backward_step(self, names: Names) -> list[str]:
        """Return the body of the function of one backward step."""
        cell, layout, adjoint = self.cell, self.layout, self.adjoint
        available: dict[int, str] = {}
        stores: list[Store] = []
        for k, row in enumerate(layout.rows):
            activation = layout.stored_activation(row)
            value = row.input if activation is None else activation
            available[value.index] = _load("a", "t", k)
            stores.append((layout.while_left(_store("a", "t", k)), adjoint.inputs[row.gate]))
        for state, output in zip(cell.states, cell.outputs, strict=True):
            available.setdefault(output.index, _load(state, "t + 1"))
        for node in cell.nodes:
            if node.op == "state":
                available.setdefault(node.index, _load(str(node.value), "t"))
        available |= self._leaves()
        late = [cell.graph.make("seed", value=state) for state in cell.states]
        available |= {seed.index: seed_name(cell.states, seed.value) for seed in late}
        for product, gradient in adjoint.products:
            if layout.gradient_row(gradient) == (layout.results.get(product.index), None):
                store = layout.while_left(_store(layout.results[product.index], "t"))
                stores.append((store, gradient))
        for name, scratch in layout.totals.items():
            stores.append((layout.while_left(_store(scratch, "t")), adjoint.vectors[name]))
        for index, scratch in layout.operands.items():
            operand = cell.graph.nodes[index]
            if operand not in cell.outputs:
                stores.append((layout.while_left(_store(scratch, "t")), operand))
        results = [
            (
                layout.while_left("{}", seed_name(cell.states, state)),
                adjoint.state(cell.graph, state),
            )
            for state in cell.states
        ]
        return self._body(names, available, late).lines(stores, results)

    def forward(self, step: str, arrays: str) -> list[str]:
        """Return the body of the kernel; two tiles at once hide each other's latencies."""
        states = self.cell.states
        one = ", ".join(old_name(state) for state in states)
        two = ", ".join(f"{old_name(state)}2" for state in states)

        def first(n: str) -> str:
            return ", ".join(f"load({state}, {n}, 0, 0)" for state in states)

        return [
            "tiles, T = a.shape[0], a.shape[1]",
            "for n in range(0, tiles - 1, 2):",
            f"    {one} = {first('n')}",
            f"    {two} = {first('n + 1')}",
            "    for t in range(T):",
            f"        {one} = {step}({arrays}, n, t, {one})",
            f"        {two} = {step}({arrays}, n + 1, t, {two})",
            "if tiles % 2:",
            "    n = tiles - 1",
            f"    {one} = {first('n')}",
            "    for t in range(T):",
            f"        {one} = {step}({arrays}, n, t, {one})",
        ]

    def backward(self, step: str, arrays: str) -> list[str]:
        """Return the body of the kernel."""
        states = self.cell.states
        seeds = [seed_name(states, state) for state in states]
        carries = [carry_of(states, state) for state in states]
        above = ["d + load(dh, n, t - first, 0)", *seeds[1:]]
        return [
            "T = a.shape[1]",
            "first = T - dh.shape[1]",
            "for n in range(a.shape[0]):",
            f"    {', '.join(seeds)} = {', '.join(f'load({c}, n, 0, 0)' for c in carries)}",
            "    for t in range(T - 1, first - 1, -1):",
            f"        {', '.join(seeds)} = {step}({arrays}, n, t, {', '.join(above)})",
            "    for t in range(first - 1, -1, -1):",
            f"        {', '.join(seeds)} = {step}({arrays}, n, t, {', '.join(seeds)})",
            *indented(
                [f"store({c}, n, 0, 0, {d})" for c, d in zip(carries, seeds, strict=True)], 1
            ),
        ]


def old_name(state: str) -> str:
    """Return the variable of a state before the step."""
    return f"{state}_old"
