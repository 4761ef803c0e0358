"""The forward kernel for any number of units: stages of products and of loops over the units.

A product reads the rows of all units, so its operand is written in an earlier stage, and the team
meets at a barrier between two stages.
"""

from dataclasses import dataclass, field
from typing import final

from .graph import Node
from .indexing import UnitRow, leaf, loop, rows_of
from .layout import Layout, Row
from .writer import Body, Names, Store, indented


@final
@dataclass
class Stage:
    """Products, then a loop over the units of the member of the team."""

    products: list[str] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)


@final
class Forward:
    """The forward kernel of one cell."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.cell = layout, layout.cell
        self.replacements: dict[int, Node] = {}
        self.partial: dict[int, Row] = {}
        self._partials: dict[str, Node] = {}
        for row in layout.rows:
            self._add_in_place(row)
        self._stages: dict[int, int] = {}
        self._packed: dict[str, str] = {}

    def _add_in_place(self, row: Row) -> None:
        """Write the sum of a row as its in-place partial sum plus the other terms."""
        graph, node = self.cell.graph, row.input
        for product in row.products:
            node = graph.make("add", node, product)
        self._partials[row.gate] = node
        if not row.products:
            return
        self.partial[node.index] = row
        total = node
        for positive, term in row.other_terms:
            total = graph.make("add" if positive else "sub", total, term)
        if total is not row.total:
            self.replacements[row.total.index] = total

    def stage(self, node: Node) -> int:
        """Return the stage in which a value can be computed."""
        if node.index not in self._stages:
            if node.op == "product":
                operand = node.args[0]
                stage = 0 if operand.op == "state" else self.stage(operand) + 1
            else:
                stage = max((self.stage(arg) for arg in node.args), default=0)
            self._stages[node.index] = stage
        return self._stages[node.index]

    def fused(self, row: Row) -> bool:
        """Tell whether the last product of a row can apply the activation."""
        stored = self.layout.stored_activation(row) is not None
        return stored and bool(row.products) and not row.other_terms

    def row_value(self, row: Row) -> Node:
        """Return the value that the rows of a gate hold at the end of a step."""
        activation = self.layout.stored_activation(row)
        return self._partials[row.gate] if activation is None else activation

    def operand(self, product: Node, time: str, per_step: bool) -> tuple[str, str]:
        """Return array and step of the operand of a product."""
        operand = product.args[0]
        if operand.op == "state":
            return str(operand.value), time
        if operand in self.cell.outputs:
            return self.cell.states[self.cell.outputs.index(operand)], f"{time} + 1"
        return self.layout.operands[operand.index], time if per_step else "0"

    def stages(self, saved: set[int]) -> list[Stage]:
        """Return the stages of a step; the results of ``saved`` products are saved at each step."""
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
            activation = layout.stored_activation(row)
            if activation is not None and not self.fused(row):
                store = UnitRow("a", "t", k).store
                stages[self.stage(activation)].stores.append((store, activation))
        for product in layout.products:
            if product.index in layout.results:
                time = "t" if product.index in saved else "0"
                x = ", ".join(self.operand(product, "t", False))
                stages[self.stage(product)].products.append(
                    f"set_product({layout.results[product.index]}, {time}, begin, end, "
                    f"{self._packed[product.value]}, {x})"
                )
        for product in layout.products:
            operand = product.args[0]
            if operand.op != "state" and operand not in cell.outputs:
                store = UnitRow(layout.operands[operand.index], "0").store
                if (store, operand) not in stages[self.stage(operand)].stores:
                    stages[self.stage(operand)].stores.append((store, operand))
        for state, output in zip(cell.states, cell.outputs, strict=True):
            store = layout.while_left(UnitRow(state, "t + 1").store, UnitRow(state, "t").load)
            stages[self.stage(output)].stores.append((store, output))
        return stages

    def available(self, stage: int, saved: set[int]) -> dict[int, str]:
        """Return by index how to read the values that are in memory before the loop of a stage.

        They are in the order of reading, on which the fused multiply-adds of the compiler depend,
        and with them the bits.
        """
        cell, layout = self.cell, self.layout
        expressions: dict[int, str] = {}
        for k, row in enumerate(layout.rows):
            place = UnitRow("a", "t", k).load
            partial = self._partials[row.gate]
            expressions[row.input.index if partial is row.input else partial.index] = place
            activation = layout.stored_activation(row)
            if activation is not None:
                done = self.stage(activation)
                if done < stage or (done == stage and self.fused(row)):
                    expressions[activation.index] = place
        for product in layout.products:
            if product.index in layout.results and self.stage(product) <= stage:
                time = "t" if product.index in saved else "0"
                expressions[product.index] = UnitRow(layout.results[product.index], time).load
        for state, output in zip(cell.states, cell.outputs, strict=True):
            if self.stage(output) < stage:
                expressions.setdefault(output.index, UnitRow(state, "t + 1").load)
        for node in cell.nodes:
            if (read := leaf(node)) is not None:
                expressions.setdefault(node.index, read)
        return expressions

    def lines(self, names: Names, saved: set[int]) -> list[str]:
        """Return the body of the kernel."""
        cell = self.cell
        names = names.copy()
        self._packed = {name: names.fresh(f"V_{name}") for name in cell.matrices}
        lines = [f"H, begin, end = {cell.states[0]}.shape[2], share.begin, share.end"]
        for m, name in enumerate(cell.matrices):
            block = f"V[:, {rows_of(m, 'begin')} : {rows_of(m, 'end')}]"
            block = block.replace("begin : end", "begin:end")
            lines.append(f"{self._packed[name]} = packed({block})")
        lines.append("for t in range(a.shape[1]):")
        for s, stage in enumerate(self.stages(saved)):
            lines += indented(stage.products, 1)
            body = Body(names, self.available(s, saved), self.replacements)
            lines += loop(body.lines(stage.stores), 1)
            if cell.matrices:
                lines += indented(["barrier(share)"], 1)
        return lines
