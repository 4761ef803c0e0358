"""Cells that Hypothesis draws: equations of any form that the compiler takes."""

from hypothesis import strategies as st

from nnjit.cells import (
    absolute,
    cell,
    cos,
    elu,
    exp,
    hard_sigmoid,
    hard_tanh,
    leaky_relu,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sin,
    softplus,
    softsign,
    sqrt,
    tanh,
)

ONE = [
    *(sigmoid, tanh, relu, leaky_relu, elu, hard_sigmoid, hard_tanh, softsign, softplus, sin, cos),
    *(absolute, lambda v: -v, lambda v: v * v, lambda v: exp(tanh(v)), lambda v: 1 - v),
    *(lambda v: log(1.5 + v * v), lambda v: sqrt(1.5 + v * v), lambda v: 1 / (1.5 + v * v)),
]
TWO = [
    *(lambda v, w: v + w, lambda v, w: v - w, lambda v, w: tanh(v) * w, maximum, minimum),
    *(lambda v, w: v / (2 + w * w), lambda v, w: 0.5 * v + 2 * w),
]


@st.composite
def cells(draw):
    """Draw a cell: values are made of earlier ones, and all that nobody took is returned."""
    states = ("h", "c", "m")[: draw(st.integers(1, 3))]
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["gate", "product", "vector", "one", "two", "sum"]),
                st.integers(0, 99),
                st.integers(0, 99),
                st.integers(0, 99),
            ),
            min_size=1,
            max_size=9,
        )
    )

    def equations(x, values, W, w):
        pool, free = list(values), []

        def take(k):
            value = pool[k % len(pool)]
            if any(value is f for f in free):
                free[:] = [f for f in free if f is not value]
            return value

        free.append(tanh(x.first))
        pool.append(free[0])
        for kind, k, i, j in steps:
            if kind == "gate":
                value = getattr(x, f"g{k % 3}") + take(i)
            elif kind == "product":
                moving = [v for v in pool if not v.is_steady()]
                value = moving[i % len(moving)] @ getattr(W, f"m{k % 3}")
            elif kind == "vector":
                value = getattr(w, f"v{k % 2}") * take(i)
            elif kind == "one":
                value = ONE[k % len(ONE)](take(i))
            elif kind == "two":
                value = TWO[k % len(TWO)](take(i), take(j))
            else:  # the sum that a gate is made of
                value = getattr(x, f"g{k % 3}") + take(i) @ getattr(W, f"m{j % 3}")
                value = sigmoid(value)
            pool.append(value)
            free.append(value)
        parts = [[] for _ in values]
        for n, value in enumerate(free):
            parts[n % len(parts)].append(value)
        out = []
        for state, mine in zip(values, parts, strict=True):
            total = 0.5 * state
            for value in mine:
                total = total + 0.3 * value
            out.append(tanh(total) if len(mine) % 2 else total / (1 + absolute(total)))
        return tuple(out)

    names = ", ".join(states)
    space = {"equations": equations}
    exec(f"def drawn(x, {names}, W, w): return equations(x, ({names},), W, w)", space)
    return cell(space["drawn"])
