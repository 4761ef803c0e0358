"""The way there, for any number of units: stages of products and of loops over the units.

A product reads the rows of all units, so whatever it takes is written a stage earlier, and the
a barrier of the team lies between two stages.
"""

from dataclasses import dataclass, field
from typing import final

from .graph import Node
from .layout import Layout, Row
from .places import Place, leaf, loop, rows_of
from .writer import Body, Names, Store, indented


@final
@dataclass
class Stage:
    """Products, then a loop over the units of this member."""

    products: list[str] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)


@final
class Forward:
    """The way there, of one cell."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.cell = layout, layout.cell
        self.instead: dict[int, Node] = {}
        self.partial: dict[int, Row] = {}
        self._partials: dict[str, Node] = {}
        for row in layout.rows:
            self._add_in_place(row)
        self._stages: dict[int, int] = {}
        self._packed: dict[str, str] = {}

    def _add_in_place(self, row: Row) -> None:
        """Say how the sum of a row follows from what its products leave there."""
        graph, node = self.cell.graph, row.input
        for product in row.products:
            node = graph.make("add", node, product)
        self._partials[row.gate] = node
        if not row.products:
            return
        self.partial[node.index] = row
        whole = node
        for positive, part in row.rest:
            whole = graph.make("add" if positive else "sub", whole, part)
        if whole is not row.total:
            self.instead[row.total.index] = whole

    def stage(self, node: Node) -> int:
        """Return the stage in which a value can be computed."""
        if node.index not in self._stages:
            if node.op == "product":
                operand = node.args[0]
                found = 0 if operand.op == "state" else self.stage(operand) + 1
            else:
                found = max((self.stage(arg) for arg in node.args), default=0)
            self._stages[node.index] = found
        return self._stages[node.index]

    def fused(self, row: Row) -> bool:
        """Tell whether the last product of a row can apply the activation."""
        return self.layout.held_activation(row) is not None and bool(row.products) and not row.rest

    def kept_row(self, row: Row) -> Node:
        """Return the value that the rows of a gate hold in the end."""
        activation = self.layout.held_activation(row)
        return self._partials[row.gate] if activation is None else activation

    def operand(self, product: Node, time: str, per_step: bool) -> tuple[str, str]:
        """Return array and step of what a product takes."""
        operand = product.args[0]
        if operand.op == "state":
            return str(operand.value), time
        if operand in self.cell.outputs:
            return self.cell.states[self.cell.outputs.index(operand)], f"{time} + 1"
        return self.layout.operands[operand.index], time if per_step else "0"

    def stages(self, kept: set[int]) -> list[Stage]:
        """Return the stages of a step; ``kept`` results of products have a row for each step."""
        cell, layout = self.cell, self.layout
        count = 1 + max((self.stage(node) for node in cell.outputs), default=0)
        stages = [Stage() for _ in range(count)]
        for row in layout.rows:
            k, last = cell.gates.index(row.gate), None
            for product in sorted(row.products, key=self.stage):
                last = product
            for product in row.products:
                function = ""
                if product is last and self.fused(row):
                    assert row.activation is not None
                    function = f", {row.activation.op}"
                x = ", ".join(self.operand(product, "t", False))
                stages[self.stage(product)].products.append(
                    f"add_product(a, t, {rows_of(k, 'begin')}, {rows_of(k, 'end')}, "
                    f"{self._packed[product.value]}, {x}{function})"
                )
            activation = layout.held_activation(row)
            if activation is not None and not self.fused(row):
                store = Place("a", "t", k).store
                stages[self.stage(activation)].stores.append((store, activation))
        for product in layout.products:
            if product.index in layout.results:
                time = "t" if product.index in kept else "0"
                x = ", ".join(self.operand(product, "t", False))
                stages[self.stage(product)].products.append(
                    f"set_product({layout.results[product.index]}, {time}, begin, end, "
                    f"{self._packed[product.value]}, {x})"
                )
        for product in layout.products:
            operand = product.args[0]
            if operand.op != "state" and operand not in cell.outputs:
                store = Place(layout.operands[operand.index], "0").store
                if (store, operand) not in stages[self.stage(operand)].stores:
                    stages[self.stage(operand)].stores.append((store, operand))
        for state, output in zip(cell.states, cell.outputs, strict=True):
            store = layout.while_left(Place(state, "t + 1").store, Place(state, "t").load)
            stages[self.stage(output)].stores.append((store, output))
        return stages

    def held(self, stage: int, kept: set[int]) -> dict[int, str]:
        """Return what lies in memory when the loop of a stage begins, in the order of reading.

        What the compiler makes of a sum of two products hangs on that order, to the last bit.
        """
        cell, layout = self.cell, self.layout
        found: dict[int, str] = {}
        for k, row in enumerate(layout.rows):
            place = Place("a", "t", k).load
            partial = self._partials[row.gate]
            found[row.input.index if partial is row.input else partial.index] = place
            activation = layout.held_activation(row)
            if activation is not None:
                done = self.stage(activation)
                if done < stage or (done == stage and self.fused(row)):
                    found[activation.index] = place
        for product in layout.products:
            if product.index in layout.results and self.stage(product) <= stage:
                time = "t" if product.index in kept else "0"
                found[product.index] = Place(layout.results[product.index], time).load
        for state, output in zip(cell.states, cell.outputs, strict=True):
            if self.stage(output) < stage:
                found.setdefault(output.index, Place(state, "t + 1").load)
        for node in cell.nodes:
            if (read := leaf(node)) is not None:
                found.setdefault(node.index, read)
        return found

    def lines(self, names: Names, kept: set[int]) -> list[str]:
        """Return the body of the kernel."""
        cell = self.cell
        names = names.copy()
        self._packed = {name: names.fresh(f"V_{name}") for name in cell.matrices}
        lines = [f"H, begin, end = {cell.states[0]}.shape[2], share.begin, share.end"]
        for m, name in enumerate(cell.matrices):
            part = f"V[:, {rows_of(m, 'begin')} : {rows_of(m, 'end')}]"
            part = part.replace("begin : end", "begin:end")
            lines.append(f"{self._packed[name]} = packed({part})")
        lines.append("for t in range(a.shape[1]):")
        for s, stage in enumerate(self.stages(kept)):
            lines += indented(stage.products, 1)
            body = Body(names, self.held(s, kept), self.instead)
            lines += loop(body.lines(stage.stores), 1)
            if cell.matrices:
                lines += indented(["barrier(share)"], 1)
        return lines
