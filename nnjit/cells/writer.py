"""From values of a graph to lines of a kernel."""

import keyword
from collections.abc import Iterable, Mapping
from typing import final

from .functions import FUNCTIONS
from .graph import Node

Store = tuple[str, Node]  # a template with {} for the value
_SUM, _PRODUCT, _ATOM = 1, 2, 9
# What the kernels call their arrays, axes and functions.
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
    """Hands out names that are not taken."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*RESERVED, *keyword.kwlist, *taken}

    def fresh(self, name: str) -> str:
        """Return the name, with underscores behind it as long as it is taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def copy(self) -> "Names":
        """Return names that start from the same."""
        return Names(self._taken)


@final
class Body:
    """The lines that compute some values of one unit at one step, and store them.

    Parameters
    ----------
    names
        Those that are taken.
    held : dict
        By index, the expression that gives a value which lies in memory or in a variable.
    instead : dict
        By index, a value that is computed instead of another one, which it equals.
    chain : bool
        Whether steps wait for each other: the factors and terms that come late stand last then.
    """

    def __init__(
        self,
        names: Names,
        held: Mapping[int, str],
        instead: Mapping[int, Node] | None = None,
        chain: bool = False,
        late: Iterable[int] = (),
    ) -> None:
        self._names, self._held, self._instead = names.copy(), held, instead or {}
        self._chain, self._late = chain, set(late)
        self._variables: dict[int, str] = {}
        self._uses: dict[int, int] = {}
        self._depths: dict[int, int] = {}

    def lines(self, stores: list[Store], results: list[Store] | None = None) -> list[str]:
        """Return the lines for some stores, and for results that are returned at the end."""
        roots = [node for _, node in [*stores, *(results or [])]]
        order = self._count(roots)
        few = len(stores) == 1 and sum("load(" in self._held.get(n.index, "") for n in order) < 3
        lines: list[str] = []
        for node in order:
            held = self._held.get(node.index)
            several = self._uses[node.index] > 1
            if held is not None:
                loaded = "load(" in held and not (few and not several and not results)
                if loaded and not self._waits(node):
                    self._assign(lines, node, held)
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

    def _waits(self, node: Node) -> bool:
        """Tell whether a value is read where it is first used: states, in memory, stay."""
        return node.op == "state" and not self._chain

    def _load_states(self, lines: list[str], node: Node, few: bool) -> None:
        """Read the states that a value is made of, unless they were."""
        if node.index in self._variables:
            return
        if node.index in self._held:
            if self._waits(node) and not (few and self._uses[node.index] == 1):
                self._assign(lines, node, self._held[node.index])
            return
        for arg in self._args(node):
            self._load_states(lines, arg, few)

    def value(self, node: Node) -> str:
        """Return a value as lanes."""
        text = self._write(node)[0]
        is_scalar = node.op in ("vector", "number") and node.index not in self._variables
        return f"zeros(a) + {text}" if is_scalar else text

    def _args(self, node: Node) -> tuple[Node, ...]:
        if node.index in self._held:
            return ()
        other = self._instead.get(node.index)
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
        leaves = [node for node in order if node.index in self._held]
        places = {index: i for i, index in enumerate(self._held)}
        leaves.sort(key=lambda node: places[node.index])
        return leaves + [node for node in order if node.index not in self._held]

    def _is_short(self, node: Node) -> bool:
        """Tell whether to write a value again reads better than a name for it: ``1.0 - z``."""
        if node.op in ("number", "vector") or node.index in self._instead:
            return True
        leaves = all(arg.index in self._held or arg.op == "number" for arg in node.args)
        known = all(arg.index in self._variables or arg.op == "number" for arg in node.args)
        return node.op == "sub" and node.args[0].op == "number" and (leaves or known)

    def _write(self, node: Node) -> tuple[str, int]:
        """Return an expression and how tightly it binds."""
        if node.index in self._variables:
            return self._variables[node.index], _ATOM
        if node.index in self._held:
            return self._held[node.index], _ATOM
        if node.index in self._instead:
            return self._write(self._instead[node.index])
        if node.op == "number":
            return repr(node.value), _ATOM if node.value >= 0 else 0
        if node.op in ("add", "sub") or (node.op == "turned" and len(node.args) > 1):
            return self._sum(node), _SUM
        if node.op in ("mul", "product", "turned"):
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
        text, own = self._write(node)
        return f"({text})" if own < level else text

    def _is_open(self, node: Node) -> bool:
        """Tell whether a value is written where it is used."""
        known = {*self._variables, *self._held, *self._instead}
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
        """Return the factors of a chain, the one that comes last first."""
        if node.op in ("product", "turned") and len(node.args) == 1 and self._is_open(node):
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
        """Return this, where products are those of one unit: with an element of V."""
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
        if len(last) > 2:  # they come together: in pairs, in the order of the equations
            found = _pairs([(sign, self._term(term)) for sign, term in reversed(terms)])
            return found[1] if found[0] else f"0.0 - ({found[1]})"
        order = sorted(range(len(terms)), key=lambda i: -depths[i])  # a stable sort
        signed = [(terms[i][0], self._term(terms[i][1])) for i in reversed(order)]
        found = signed[0]
        for term in signed[1:]:
            found = _add(term, found)
        return found[1] if found[0] else f"0.0 - ({found[1]})"

    def _term(self, node: Node) -> str:
        return self._inside(node, _PRODUCT)

    def _terms(self, node: Node, positive: bool) -> list[tuple[bool, Node]]:
        if node.op == "turned" and len(node.args) > 1 and self._is_open(node):
            make = node.graph.make
            pairs = zip(node.args, node.value, strict=True)
            return [(positive, make("turned", arg, value=(name,))) for arg, name in pairs]
        if node.op not in ("add", "sub") or not self._is_open(node):
            return [(positive, node)]
        x, y = node.args
        return self._terms(x, positive) + self._terms(y, positive == (node.op == "add"))

    def _depth(self, node: Node) -> int:
        """Return how long a value takes from what comes late, 0 where it does not depend on it."""
        if node.index not in self._depths:
            late, args = node.index in self._late, self._args(node)
            if node.op == "mul" and args:  # a chain, in which what comes last is multiplied last
                chain = [self._factors(arg) for arg in args]
                args = tuple(f for part in chain for f in part if isinstance(f, Node))
            below = max((self._depth(arg) for arg in args), default=0)
            cost = 1 if node.op in ("add", "sub", "mul", "product", "turned", "neg") else 10
            self._depths[node.index] = 1 if late else below + cost if below else 0
        return self._depths[node.index]


def _name(node: Node) -> str:
    if node.op == "state":
        return f"{node.value}_old"
    if node.op == "input":
        return f"x_{node.value}"
    return node.label or "s"


def _add(x: tuple[bool, str], y: tuple[bool, str]) -> tuple[bool, str]:
    """Add two signed terms; y is itself a sum, perhaps."""
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
    """Return lines that stand so many levels deeper."""
    return [f"{'    ' * levels}{line}" if line else line for line in lines]
