"""The backward kernel for any number of units: stages as in `forward`, in reverse order."""

from dataclasses import dataclass
from typing import final

from .adjoint import Term, total
from .forward import Forward
from .graph import Node
from .indexing import UnitRow, carry_of, columns, leaf, loop, seed_name
from .layout import Layout
from .writer import Body, Names, Store, indented


@final
@dataclass(frozen=True)
class TransposedProducts:
    """Products with transposed matrices that are adjacent in V and in the array of gradients."""

    array: str  # of the gradients of the results
    row: int | None  # the first gate; None in an array for one product
    column: int  # the first matrix
    count: int

    def is_before(self, array: str, row: int | None, column: int) -> bool:
        """Tell whether a product follows these in both."""
        if row is None or self.row is None or array != self.array:
            return False
        return (row, column) == (self.row + self.count, self.column + self.count)


@final
class Backward:
    """The backward kernel of one cell."""

    def __init__(self, layout: Layout, forward: Forward) -> None:
        self.layout, self.cell, self.forward = layout, layout.cell, forward
        self.adjoint = layout.adjoint
        self._depends: dict[int, bool] = {}
        self._stages: dict[int, int] = {}
        self.saved: set[int] = set()
        self.temporary: dict[int, str] = {}
        self._final: dict[str, Node] = {}
        self._terms: dict[str, dict[int, list[Term]]] = {}
        for state, terms in self.adjoint.states.items():
            by_stage: dict[int, list[Term]] = {}
            for term in terms:
                if len(term.factors) == 1 and term.factors[0].op == "transposed" and term.positive:
                    self._final[state] = term.factors[0]
                else:
                    s = max(self.stage(factor) for factor in term.factors)
                    by_stage.setdefault(s, []).append(term)
            self._terms[state] = by_stage
        self.stores = self._stores()
        self._find_memory()

    def depends(self, node: Node) -> bool:
        """Tell whether a value is a gradient: whether it depends on a gradient of a later step."""
        if node.index not in self._depends:
            above = any(self.depends(arg) for arg in node.args)
            self._depends[node.index] = node.op == "seed" or above
        return self._depends[node.index]

    def stage(self, node: Node) -> int:
        """Return the stage in which a value can be computed."""
        if not self.depends(node):
            return 0
        if node.index not in self._stages:
            below = max((self.stage(arg) for arg in node.args), default=0)
            self._stages[node.index] = below + (node.op == "transposed")
        return self._stages[node.index]

    def gradient_place(self, gradient: Node) -> UnitRow | None:
        """Return the row in which a gradient is stored at every step, or None."""
        place = self.layout.gradient_row(gradient)
        return None if place is None else UnitRow(place[0], "t", place[1] or 0)

    def _stores(self) -> list[list[Store]]:
        """Return the stores of the loop of each stage, carries included."""
        layout, cell, adjoint = self.layout, self.cell, self.adjoint
        stores: dict[int, list[Store]] = {}

        def add(stage: int, store: Store) -> None:
            if store not in stores.setdefault(stage, []):
                stores[stage].append(store)

        for state, by_stage in self._terms.items():
            place = UnitRow(carry_of(cell.states, state), "0")
            stages = sorted(by_stage)
            if layout.ragged or not (stages or state in self._final):
                stages = sorted({0, *stages})
            for i, s in enumerate(stages):
                value = total(cell.graph, by_stage.get(s, []))
                if i:
                    added = f"{place.load} + {layout.while_left('{}')}"
                    add(s, (place.store.replace("{}", added), value))
                else:  # a carry passes unchanged through the steps after the end of a clip
                    seed = seed_name(cell.states, state)
                    add(s, (layout.while_left(place.store, seed), value))
        for k, gate in enumerate(cell.gates):
            gradient = adjoint.inputs[gate]
            add(self.stage(gradient), (layout.while_left(UnitRow("a", "t", k).store), gradient))
        for product, gradient in adjoint.products:
            if self.layout.gradient_row(gradient) == (layout.results.get(product.index), None):
                place = UnitRow(layout.results[product.index], "t")
                add(self.stage(gradient), (layout.while_left(place.store), gradient))
        for name, scratch in layout.totals.items():
            gradient = adjoint.vectors[name]
            add(self.stage(gradient), (layout.while_left(UnitRow(scratch, "t").store), gradient))
        for index, scratch in layout.operands.items():
            operand = next(p.args[0] for p in layout.products if p.args[0].index == index)
            if operand not in cell.outputs:
                store = layout.while_left(UnitRow(scratch, "t").store)
                add(self.stage(adjoint.operands[index]), (store, operand))
        count = 1 + max([*stores, *(self.stage(node) - 1 for node in self._final.values())])
        return [stores.get(s, []) for s in range(count)]

    def _find_memory(self) -> None:
        """Find the results of products that forward must save, and the values to store early."""
        while (missing := self._first_missing()) is not None:
            if missing.index in self.layout.results and missing.index not in self.saved:
                self.saved.add(missing.index)
                continue
            assert missing.index not in self.temporary, f"{self.cell.name} cannot be compiled"
            name = self.layout.add_scratch(f"t{len(self.temporary) + 1}")
            self.temporary[missing.index] = name
            self.stores[self.stage(missing)].append((UnitRow(name, "0").store, missing))

    def _first_missing(self) -> Node | None:
        """Return a value that the loop of a stage can neither read nor compute, or None."""
        row_values = {self.forward.row_value(row).index for row in self.layout.rows}
        for s, stores in enumerate(self.stores):
            available, done = self.available(s), set()
            pending = [node for _, node in stores]
            while pending:
                node = pending.pop()
                if node.index in available or node.index in done or node.op == "number":
                    continue
                done.add(node.index)
                replacement = self.forward.replacements.get(node.index)
                args = (replacement,) if replacement is not None else node.args
                product = node.op in ("transposed", "product")
                if not args or product or node.index in row_values:
                    return node
                pending += args
        return None

    def _stored_before(self, gradient: Node, stage: int) -> bool:
        return self.stage(gradient) < stage

    def available(self, stage: int) -> dict[int, str]:
        """Return by index how to read the values in memory before a stage's loop, in that order."""
        cell, layout = self.cell, self.layout
        expressions: dict[int, str] = {}
        for k, row in enumerate(layout.rows):
            if not self._stored_before(self.adjoint.inputs[row.gate], stage):
                expressions.setdefault(self.forward.row_value(row).index, UnitRow("a", "t", k).load)
        for product, gradient in self.adjoint.products:
            scratch = layout.results.get(product.index)
            if scratch is not None and product.index in self.saved:
                overwritten = layout.gradient_row(gradient) == (scratch, None)
                if not (overwritten and self._stored_before(gradient, stage)):
                    expressions[product.index] = UnitRow(scratch, "t").load
        for state, output in zip(cell.states, cell.outputs, strict=True):
            expressions.setdefault(output.index, UnitRow(state, "t + 1").load)
        for node in cell.nodes:
            if (read := leaf(node)) is not None:
                expressions.setdefault(node.index, read)
        if stage == 0:
            for state in cell.states:
                seed = cell.graph.make("seed", value=state)
                expressions[seed.index] = seed_name(cell.states, state)
        for gradient in [*self.adjoint.inputs.values(), *(g for _, g in self.adjoint.products)]:
            place = self.gradient_place(gradient)
            if place is not None and self._stored_before(gradient, stage):
                expressions[gradient.index] = place.load
        for index, scratch in layout.operands.items():
            if self.stage(self.adjoint.operands[index]) == stage:
                expressions[self.adjoint.operands[index].index] = UnitRow(scratch, "t").load
        for index, name in self.temporary.items():
            if self.stage(cell.graph.nodes[index]) < stage:
                expressions[index] = UnitRow(name, "0").load
        return expressions

    def _transposed_products(self, node: Node) -> list[TransposedProducts]:
        """Return the products of a ``transposed`` node, adjacent ones joined."""
        pairs = []
        for name, gradient in zip(node.value, node.args, strict=True):
            place = self.layout.gradient_row(gradient)
            assert place is not None
            pairs.append((place[1] is None, self.cell.matrices.index(name), place))
        products: list[TransposedProducts] = []
        for _, column, (array, row) in sorted(pairs, key=lambda pair: pair[:2]):
            last = products[-1] if products else None
            if last and last.is_before(array, row, column):
                products[-1] = TransposedProducts(array, last.row, last.column, last.count + 1)
                continue
            products.append(TransposedProducts(array, row, column, 1))
        return products

    def lines(self, names: Names) -> list[str]:
        """Return the body of the kernel."""
        states, names = self.cell.states, names.copy()
        lines = [f"T, H, begin, end = a.shape[1], {states[0]}.shape[2], share.begin, share.end"]
        lines.append("first = T - dh.shape[1]")
        packed: dict[TransposedProducts, tuple[str, str]] = {}
        jobs: list[list[str]] = [[] for _ in range(len(self.stores) + 1)]
        targets = [
            (
                self.stage(self.adjoint.operands[index]),
                scratch,
                "t",
                False,
                self.adjoint.operands[index],
            )
            for index, scratch in self.layout.operands.items()
        ]
        for state, node in self._final.items():
            adds = bool(self._terms[state]) or self.layout.ragged
            targets.append((len(self.stores), carry_of(states, state), "0", adds, node))
        for s, array, time, adds, node in targets:
            for products in self._transposed_products(node):
                if products not in packed:
                    packed[products] = self._pack(products, names, lines)
                weights, gradients = packed[products]
                product = "add_product" if adds else "set_product"
                jobs[s].append(f"{product}({array}, {time}, begin, end, {weights}, {gradients}, t)")
                adds = True
        lines.append("for t in range(T - 1, -1, -1):")
        for s, stores in enumerate(self.stores):
            lines += indented(jobs[s], 1)
            body = Body(names, self.available(s), self.forward.replacements).lines(stores)
            lines += loop((self._seeds() if s == 0 else []) + body, 1)
            if any(jobs[s + 1 :]):
                lines += indented(["barrier(share)"], 1)
        lines += indented(jobs[-1], 1)
        if not jobs[-1]:  # the gradients of x and V need those of all units
            lines.append("barrier(share)")
        return lines

    def _pack(
        self, products: TransposedProducts, names: Names, lines: list[str]
    ) -> tuple[str, str]:
        """Pack weights before the first step; return the names of weights and gradients."""
        cell = self.cell
        matrices = cell.matrices[products.column : products.column + products.count]
        weights, block = names.fresh(f"V_{'_'.join(matrices)}"), "V[begin:end]"
        if products.count < len(cell.matrices):
            block = columns("V", "begin:end, ", products.column, products.column + products.count)
        lines.append(f"{weights} = packed_transposed({block})")
        if products.row is None or products.count == len(cell.gates):
            return weights, products.array
        gates = cell.gates[products.row : products.row + products.count]
        gradients = names.fresh(f"d_{'_'.join(gates)}")
        rows = columns(products.array, ":, :, ", products.row, products.row + products.count)
        lines.append(f"{gradients} = {rows}")
        return weights, gradients

    def _seeds(self) -> list[str]:
        """Return the lines that read the gradients of the states from later steps."""
        states, lines = self.cell.states, []
        for state in states:
            name = seed_name(states, state)
            lines.append(f"{name} = load({carry_of(states, state)}, n, 0, j)")
            if state == states[0]:
                lines += ["if t >= first:", f"    {name} = {name} + load(dh, n, t - first, j)"]
        return lines
