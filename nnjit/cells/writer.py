"""Writes the values of a graph as lines of a kernel."""

import keyword
from collections.abc import Iterable, Mapping
from typing import final

from .functions import FUNCTIONS
from .graph import Node

Store = tuple[str, Node]  # a template with {} for the value
_SUM, _PRODUCT, _ATOM = 1, 2, 9
# The names of arrays, axes and functions in the kernels.
RESERVED = frozenset(
    {
        *(
            "a",
            "V",
            *("mask", "left", "select"),
            "H",
            "T",
            "t",
            "n",
            "j",
            "begin",
            "end",
            "first",
            "share",
            "dh",
            "dV",
            "gate",
        ),
        *("load", "store", "zeros", "jit", "inlined", "barrier", "range", "tiles"),
        *("packed", "packed_transposed", "add_product", "set_product"),
        *("add_outer_of_gates", "add_sum", "add_gate", "one_step", "one_step_back"),
        *FUNCTIONS,
    }
)


@final
class Names:
    """Returns names that are not taken."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*RESERVED, *keyword.kwlist, *taken}

    def fresh(self, name: str) -> str:
        """Return the name, with as many underscores appended as make it unique."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def copy(self) -> "Names":
        """Return a copy with the same taken names."""
        return Names(self._taken)


@final
class Body:
    """The lines that compute some values of one unit at one step, and store them.

    Parameters
    ----------
    names
        The names that are taken.
    available : dict
        By index, the expression that reads a value from memory or from a variable.
    replacements : dict
        By index, a value that is computed in the place of another, equal one.
    chain : bool
        Whether each step depends on the one before. Then the factors and terms that are known last
        are applied last, for a short chain of dependent operations.
    late : iterable of int
        The indices of the values that are known last: they come from the step before.
    """

    def __init__(
        self,
        names: Names,
        available: Mapping[int, str],
        replacements: Mapping[int, Node] | None = None,
        chain: bool = False,
        late: Iterable[int] = (),
    ) -> None:
        self._names, self._available = names.copy(), available
        self._replacements = replacements or {}
        self._chain, self._late = chain, set(late)
        self._variables: dict[int, str] = {}
        self._uses: dict[int, int] = {}
        self._depths: dict[int, int] = {}

    def lines(self, stores: list[Store], results: list[Store] | None = None) -> list[str]:
        """Return the lines that write ``stores`` and return ``results``."""
        roots = [node for _, node in [*stores, *(results or [])]]
        order = self._count(roots)
        n_loads = sum("load(" in self._available.get(node.index, "") for node in order)
        few = len(stores) == 1 and n_loads < 3
        lines: list[str] = []
        for node in order:
            available = self._available.get(node.index)
            several = self._uses[node.index] > 1
            if available is not None:
                loaded = "load(" in available and not (few and not several and not results)
                if loaded and not self._is_deferred(node):
                    self._assign(lines, node, available)
            elif several and not self._is_short(node):
                self._load_states(lines, node, few)
                self._assign(lines, node, self._write(node)[0])
        for template, node in stores:
            self._load_states(lines, node, few)
            lines.append(template.format(self.value(node)))
        if results:
            values = [template.format(self.value(node)) for template, node in results]
            lines.append(f"return {', '.join(values)}")
        return lines

    def _assign(self, lines: list[str], node: Node, text: str) -> None:
        name = self._names.fresh(_name(node))
        lines.append(f"{name} = {text}")
        self._variables[node.index] = name

    def _is_deferred(self, node: Node) -> bool:
        """Tell whether a value is read only before its first use: a state, which is in memory."""
        return node.op == "state" and not self._chain

    def _load_states(self, lines: list[str], node: Node, few: bool) -> None:
        """Read the states on which a value depends, unless they have been read."""
        if node.index in self._variables:
            return
        if node.index in self._available:
            if self._is_deferred(node) and not (few and self._uses[node.index] == 1):
                self._assign(lines, node, self._available[node.index])
            return
        for arg in self._args(node):
            self._load_states(lines, arg, few)

    def value(self, node: Node) -> str:
        """Return a value as lanes."""
        text = self._write(node)[0]
        is_scalar = node.op in ("vector", "number") and node.index not in self._variables
        return f"zeros(a) + {text}" if is_scalar else text

    def _args(self, node: Node) -> tuple[Node, ...]:
        if node.index in self._available:
            return ()
        other = self._replacements.get(node.index)
        return (other,) if other is not None else node.args

    def _count(self, roots: list[Node]) -> list[Node]:
        """Count the uses of all values; return them, each after its arguments."""
        order: list[Node] = []
        done: set[int] = set()

        def visit(node: Node) -> None:
            self._uses[node.index] = self._uses.get(node.index, 0) + 1
            if node.index in done:
                return
            done.add(node.index)
            for arg in self._args(node):
                visit(arg)
            order.append(node)

        for root in roots:
            visit(root)
        leaves = [node for node in order if node.index in self._available]
        places = {index: i for i, index in enumerate(self._available)}
        leaves.sort(key=lambda node: places[node.index])
        return leaves + [node for node in order if node.index not in self._available]

    def _is_short(self, node: Node) -> bool:
        """Tell whether a value, such as ``1.0 - z``, is repeated rather than named."""
        if node.op in ("number", "vector") or node.index in self._replacements:
            return True
        leaves = all(arg.index in self._available or arg.op == "number" for arg in node.args)
        known = all(arg.index in self._variables or arg.op == "number" for arg in node.args)
        return node.op == "sub" and node.args[0].op == "number" and (leaves or known)

    def _write(self, node: Node) -> tuple[str, int]:
        """Return an expression and its binding strength."""
        if node.index in self._variables:
            return self._variables[node.index], _ATOM
        if node.index in self._available:
            return self._available[node.index], _ATOM
        if node.index in self._replacements:
            return self._write(self._replacements[node.index])
        if node.op == "number":
            return repr(node.value), _ATOM if node.value >= 0 else 0
        if node.op in ("add", "sub") or (node.op == "transposed" and len(node.args) > 1):
            return self._sum(node), _SUM
        if node.op in ("mul", "product", "transposed"):
            return self._product(node), _PRODUCT
        if node.op == "div":
            x, y = (self._inside(arg, _PRODUCT + i) for i, arg in enumerate(node.args))
            return f"{x} / {y}", _PRODUCT
        if node.op == "neg":
            return f"0.0 - {self._inside(node.args[0], _PRODUCT)}", _SUM
        if len(node.args) == 2:
            return f"{node.op}({', '.join(self.value(arg) for arg in node.args)})", _ATOM
        return f"{node.op}({self._write(node.args[0])[0]})", _ATOM

    def _inside(self, node: Node, level: int) -> str:
        text, binding = self._write(node)
        return f"({text})" if binding < level else text

    def _is_open(self, node: Node) -> bool:
        """Tell whether a value is written as an expression where it is used."""
        known = {*self._variables, *self._available, *self._replacements}
        return node.index not in known

    def _product(self, node: Node) -> str:
        if not self._chain:
            x, y = node.args
            return f"{self._inside(x, _PRODUCT)} * {self._inside(y, _PRODUCT + 1)}"
        texts = [
            factor if isinstance(factor, str) else self._inside(factor, _PRODUCT + 1)
            for factor in self._factors(node)
        ]
        return " * (".join(texts[:-1]) + f" * {texts[-1]}" + ")" * (len(texts) - 2)

    def _factors(self, node: Node) -> list[Node | str]:
        """Return the factors of a product; the one that is known last is the last."""
        if node.op in ("product", "transposed") and len(node.args) == 1 and self._is_open(node):
            *early, last = self._factors(node.args[0])
            return [*early, self._matrix(node), last]
        if node.op == "mul" and self._is_open(node):
            return [*self._factors(node.args[0]), *self._factors(node.args[1])]
        return [node]

    def _matrix(self, node: Node) -> str:
        name = node.value if node.op == "product" else node.value[0]
        return f"V[0, {self._columns[name]}]"

    _columns: Mapping[str, int] = {}

    def with_matrices(self, columns: Mapping[str, int]) -> "Body":
        """Return this, writing products for one unit: with an element of V, by matrix."""
        self._columns = columns
        return self

    def _sum(self, node: Node) -> str:
        if not self._chain:
            sign = "+" if node.op == "add" else "-"
            x, y = node.args
            return f"{self._inside(x, _SUM)} {sign} {self._inside(y, _SUM + (sign == '-'))}"
        terms = self._terms(node, True)
        depths = [self._depth(term) for _, term in terms]
        last = [i for i, depth in enumerate(depths) if depth == max(depths)]
        if len(last) > 2:  # several terms are known last: add in pairs, as the equations order them
            total = _pairs([(sign, self._term(term)) for sign, term in reversed(terms)])
            return total[1] if total[0] else f"0.0 - ({total[1]})"
        order = sorted(range(len(terms)), key=lambda i: -depths[i])  # a stable sort
        signed = [(terms[i][0], self._term(terms[i][1])) for i in reversed(order)]
        total = signed[0]
        for term in signed[1:]:
            total = _add(term, total)
        return total[1] if total[0] else f"0.0 - ({total[1]})"

    def _term(self, node: Node) -> str:
        return self._inside(node, _PRODUCT)

    def _terms(self, node: Node, positive: bool) -> list[tuple[bool, Node]]:
        if node.op == "transposed" and len(node.args) > 1 and self._is_open(node):
            make = node.graph.make
            pairs = zip(node.args, node.value, strict=True)
            return [(positive, make("transposed", arg, value=(name,))) for arg, name in pairs]
        if node.op not in ("add", "sub") or not self._is_open(node):
            return [(positive, node)]
        x, y = node.args
        return self._terms(x, positive) + self._terms(y, positive == (node.op == "add"))

    def _depth(self, node: Node) -> int:
        """Return the latency from the late values to this one, 0 if it does not depend on them."""
        if node.index not in self._depths:
            late, args = node.index in self._late, self._args(node)
            if node.op == "mul" and args:  # a chain, in which the late factor is multiplied last
                chain = [self._factors(arg) for arg in args]
                args = tuple(f for factors in chain for f in factors if isinstance(f, Node))
            below = max((self._depth(arg) for arg in args), default=0)
            cost = 1 if node.op in ("add", "sub", "mul", "product", "transposed", "neg") else 10
            self._depths[node.index] = 1 if late else below + cost if below else 0
        return self._depths[node.index]


def _name(node: Node) -> str:
    if node.op == "state":
        return f"{node.value}_old"
    if node.op == "input":
        return f"x_{node.value}"
    return node.label or "s"


def _add(x: tuple[bool, str], y: tuple[bool, str]) -> tuple[bool, str]:
    """Add two signed terms; y may be a sum."""
    inner = f"({y[1]})" if " + " in y[1] or " - " in y[1] else y[1]
    if x[0] == y[0]:
        return x[0], f"{x[1]} + {inner}"
    return (True, f"{x[1]} - {inner}") if x[0] else (True, f"{y[1]} - {x[1]}")


def _pairs(terms: list[tuple[bool, str]]) -> tuple[bool, str]:
    if len(terms) == 1:
        return terms[0]
    half = (len(terms) + 1) // 2
    left, right = _pairs(terms[:half]), _pairs(terms[half:])
    if half > 1:
        left = (left[0], f"({left[1]})")
    return _add(left, right)


def indented(lines: Iterable[str], levels: int) -> list[str]:
    """Return lines indented by so many levels."""
    return [f"{'    ' * levels}{line}" if line else line for line in lines]
