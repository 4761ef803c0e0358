"""The way back, for any number of units: stages as in `forward`, the other way round."""

from dataclasses import dataclass
from typing import final

from .adjoint import Term, total
from .forward import Forward
from .graph import Node
from .layout import Layout
from .places import Place, carry_of, columns, leaf, loop, seed_name
from .writer import Body, Names, Store, indented


@final
@dataclass(frozen=True)
class Turned:
    """Products with transposed matrices, side by side in V and in the array of gradients."""

    array: str  # of the gradients of the results
    row: int | None  # the first gate, where the array has rows of several
    column: int  # the first matrix
    count: int

    def is_before(self, array: str, row: int | None, column: int) -> bool:
        """Tell whether a product lies beside these in both."""
        if row is None or self.row is None or array != self.array:
            return False
        return (row, column) == (self.row + self.count, self.column + self.count)


@final
class Backward:
    """The way back, of one cell."""

    def __init__(self, layout: Layout, forward: Forward) -> None:
        self.layout, self.cell, self.forward = layout, layout.cell, forward
        self.adjoint = layout.adjoint
        self._depends: dict[int, bool] = {}
        self._stages: dict[int, int] = {}
        self.kept: set[int] = set()
        self.temporary: dict[int, str] = {}
        self._final: dict[str, Node] = {}
        self._terms: dict[str, dict[int, list[Term]]] = {}
        for state, terms in self.adjoint.states.items():
            by_stage: dict[int, list[Term]] = {}
            for term in terms:
                if len(term.factors) == 1 and term.factors[0].op == "turned" and term.positive:
                    self._final[state] = term.factors[0]
                else:
                    s = max(self.stage(factor) for factor in term.factors)
                    by_stage.setdefault(s, []).append(term)
            self._terms[state] = by_stage
        self.stores = self._stores()
        self._find_memory()

    def depends(self, node: Node) -> bool:
        """Tell whether a value is a gradient: made of those that come from later steps."""
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
            self._stages[node.index] = below + (node.op == "turned")
        return self._stages[node.index]

    def gradient_place(self, gradient: Node) -> Place | None:
        """Return where a gradient is kept at every step, if it is."""
        found = self.layout.gradient_row(gradient)
        return None if found is None else Place(found[0], "t", found[1] or 0)

    def _stores(self) -> list[list[Store]]:
        """Return what the loop of each stage writes, carries included."""
        layout, cell, adjoint = self.layout, self.cell, self.adjoint
        found: dict[int, list[Store]] = {}

        def add(stage: int, store: Store) -> None:
            if store not in found.setdefault(stage, []):
                found[stage].append(store)

        for state, by_stage in self._terms.items():
            place = Place(carry_of(cell.states, state), "0")
            stages = sorted(by_stage)
            if layout.ragged or not (stages or state in self._final):
                stages = sorted({0, *stages})
            for i, s in enumerate(stages):
                value = total(cell.graph, by_stage.get(s, []))
                if i:
                    added = f"{place.load} + {layout.while_left('{}')}"
                    add(s, (place.store.replace("{}", added), value))
                else:  # what comes from behind the end of a clip stays as it is
                    seed = seed_name(cell.states, state)
                    add(s, (layout.while_left(place.store, seed), value))
        for k, gate in enumerate(cell.gates):
            gradient = adjoint.inputs[gate]
            add(self.stage(gradient), (layout.while_left(Place("a", "t", k).store), gradient))
        for product, gradient in adjoint.products:
            if self.layout.gradient_row(gradient) == (layout.results.get(product.index), None):
                place = Place(layout.results[product.index], "t")
                add(self.stage(gradient), (layout.while_left(place.store), gradient))
        for name, scratch in layout.totals.items():
            gradient = adjoint.vectors[name]
            add(self.stage(gradient), (layout.while_left(Place(scratch, "t").store), gradient))
        for index, scratch in layout.operands.items():
            operand = next(p.args[0] for p in layout.products if p.args[0].index == index)
            if operand not in cell.outputs:
                store = layout.while_left(Place(scratch, "t").store)
                add(self.stage(adjoint.turned[index]), (store, operand))
        count = 1 + max([*found, *(self.stage(node) - 1 for node in self._final.values())])
        return [found.get(s, []) for s in range(count)]

    def _find_memory(self) -> None:
        """Find which results of products forward must keep, and what must be put by."""
        while (found := self._first_missing()) is not None:
            if found.index in self.layout.results and found.index not in self.kept:
                self.kept.add(found.index)
                continue
            assert found.index not in self.temporary, f"{self.cell.name} cannot be compiled"
            name = self.layout.add_scratch(f"t{len(self.temporary) + 1}")
            self.temporary[found.index] = name
            self.stores[self.stage(found)].append((Place(name, "0").store, found))

    def _first_missing(self) -> Node | None:
        """Return a value that some loop can neither read nor compute, if there is one."""
        kept_rows = {self.forward.kept_row(row).index for row in self.layout.rows}
        for s, stores in enumerate(self.stores):
            held, done = self.held(s), set()
            pending = [node for _, node in stores]
            while pending:
                node = pending.pop()
                if node.index in held or node.index in done or node.op == "number":
                    continue
                done.add(node.index)
                instead = self.forward.instead.get(node.index)
                args = (instead,) if instead is not None else node.args
                product = node.op in ("turned", "product")
                if not args or product or node.index in kept_rows:
                    return node
                pending += args
        return None

    def _stored_before(self, gradient: Node, stage: int) -> bool:
        return self.stage(gradient) < stage

    def held(self, stage: int) -> dict[int, str]:
        """Return what lies in memory when the loop of a stage begins, in the order of reading."""
        cell, layout = self.cell, self.layout
        found: dict[int, str] = {}
        for k, row in enumerate(layout.rows):
            if not self._stored_before(self.adjoint.inputs[row.gate], stage):
                found.setdefault(self.forward.kept_row(row).index, Place("a", "t", k).load)
        for product, gradient in self.adjoint.products:
            scratch = layout.results.get(product.index)
            if scratch is not None and product.index in self.kept:
                own = layout.gradient_row(gradient) == (scratch, None)
                if not (own and self._stored_before(gradient, stage)):
                    found[product.index] = Place(scratch, "t").load
        for state, output in zip(cell.states, cell.outputs, strict=True):
            found.setdefault(output.index, Place(state, "t + 1").load)
        for node in cell.nodes:
            if (read := leaf(node)) is not None:
                found.setdefault(node.index, read)
        if stage == 0:
            for state in cell.states:
                seed = cell.graph.make("seed", value=state)
                found[seed.index] = seed_name(cell.states, state)
        for gradient in [*self.adjoint.inputs.values(), *(g for _, g in self.adjoint.products)]:
            kept = self.gradient_place(gradient)
            if kept is not None and self._stored_before(gradient, stage):
                found[gradient.index] = kept.load
        for index, scratch in layout.operands.items():
            if self.stage(self.adjoint.turned[index]) == stage:
                found[self.adjoint.turned[index].index] = Place(scratch, "t").load
        for index, name in self.temporary.items():
            if self.stage(cell.graph.nodes[index]) < stage:
                found[index] = Place(name, "0").load
        return found

    def _turned(self, node: Node) -> list[Turned]:
        """Return the products of a sum of them, as few as V and the gradients allow."""
        pairs = []
        for name, gradient in zip(node.value, node.args, strict=True):
            place = self.layout.gradient_row(gradient)
            assert place is not None
            pairs.append((place[1] is None, self.cell.matrices.index(name), place))
        found: list[Turned] = []
        for _, column, (array, row) in sorted(pairs, key=lambda pair: pair[:2]):
            last = found[-1] if found else None
            if last and last.is_before(array, row, column):
                found[-1] = Turned(array, last.row, last.column, last.count + 1)
                continue
            found.append(Turned(array, row, column, 1))
        return found

    def lines(self, names: Names) -> list[str]:
        """Return the body of the kernel."""
        states, names = self.cell.states, names.copy()
        lines = [f"T, H, begin, end = a.shape[1], {states[0]}.shape[2], share.begin, share.end"]
        lines.append("first = T - dh.shape[1]")
        packed: dict[Turned, tuple[str, str]] = {}
        jobs: list[list[str]] = [[] for _ in range(len(self.stores) + 1)]
        targets = [
            (
                self.stage(self.adjoint.turned[index]),
                scratch,
                "t",
                False,
                self.adjoint.turned[index],
            )
            for index, scratch in self.layout.operands.items()
        ]
        for state, node in self._final.items():
            adds = bool(self._terms[state]) or self.layout.ragged
            targets.append((len(self.stores), carry_of(states, state), "0", adds, node))
        for s, array, time, adds, node in targets:
            for part in self._turned(node):
                if part not in packed:
                    packed[part] = self._pack(part, names, lines)
                weights, gradients = packed[part]
                product = "add_product" if adds else "set_product"
                jobs[s].append(f"{product}({array}, {time}, begin, end, {weights}, {gradients}, t)")
                adds = True
        lines.append("for t in range(T - 1, -1, -1):")
        for s, stores in enumerate(self.stores):
            lines += indented(jobs[s], 1)
            body = Body(names, self.held(s), self.forward.instead).lines(stores)
            lines += loop((self._seeds() if s == 0 else []) + body, 1)
            if any(jobs[s + 1 :]):
                lines += indented(["barrier(share)"], 1)
        lines += indented(jobs[-1], 1)
        if not jobs[-1]:
            lines.append(
                "barrier(share)"
            )  # all read the gradients of all units, for that of x and V
        return lines

    def _pack(self, part: Turned, names: Names, lines: list[str]) -> tuple[str, str]:
        """Prepare a product before the first step; return the names of weights and gradients."""
        cell = self.cell
        matrices = cell.matrices[part.column : part.column + part.count]
        weights, turned = names.fresh(f"V_{'_'.join(matrices)}"), "V[begin:end]"
        if part.count < len(cell.matrices):
            turned = columns("V", "begin:end, ", part.column, part.column + part.count)
        lines.append(f"{weights} = packed_transposed({turned})")
        if part.row is None or part.count == len(cell.gates):
            return weights, part.array
        gates = cell.gates[part.row : part.row + part.count]
        gradients = names.fresh(f"d_{'_'.join(gates)}")
        rows = columns(part.array, ":, :, ", part.row, part.row + part.count)
        lines.append(f"{gradients} = {rows}")
        return weights, gradients

    def _seeds(self) -> list[str]:
        """Return the lines that read what comes from later steps."""
        states, lines = self.cell.states, []
        for state in states:
            name = seed_name(states, state)
            lines.append(f"{name} = load({carry_of(states, state)}, n, 0, j)")
            if state == states[0]:
                lines += ["if t >= first:", f"    {name} = {name} + load(dh, n, t - first, j)"]
        return lines
