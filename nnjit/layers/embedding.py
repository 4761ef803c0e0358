"""Embedding: a trained vector for each symbol."""

from typing import Any, final

import numpy as np

from ..errors import ShapeError
from ..kernels._lanes import LANES
from ..kernels.inputs import project_codes, project_codes_backward
from ..options import check_counts
from ..runtime.memory import empty
from ..runtime.threads import check_wanted, for_spans
from .base import Array, Gradients, Layer, Parameter
from .projection import SUM_STEPS, add_in_order, blocks
from .spec import Codes, Signal, Spec


@final
class Embedding(Layer):
    """Codes (N, T) to the rows of E (V, output_dim) that they name, (N, T, output_dim).

    Parameters
    ----------
    input_dim
        V, the number of symbols; None: as many as the inputs have.
    output_dim
        Length of the vector of a symbol.
    embeddings_initializer
        For E; see `nnjit.initializers`.
    """

    def __init__(
        self,
        input_dim: int | None,
        output_dim: int,
        embeddings_initializer: str = "normal",
    ) -> None:
        check_counts("Embedding", output_dim=output_dim)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = embeddings_initializer

    def connect(self, spec: Spec) -> Spec:
        """Take codes only; see `Layer.connect`."""
        if not isinstance(spec, Codes):
            raise ShapeError(
                f"{self.name} expected codes, got {spec}: put it first, and encode the recordings "
                "(dataset.encoding other than raw), or take Dense for numbers"
            )
        if self.input_dim not in (None, spec.levels):
            raise ShapeError(
                f"{self.name} input_dim={self.input_dim}, the inputs have {spec.levels} symbols: "
                "leave input_dim out"
            )
        return Signal(spec.n_steps, self.output_dim)

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return E; see `Layer.parameters`."""
        return {"E": Parameter(self.embeddings_initializer, (spec.n_features, self.output_dim))}

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return (tiles, T, output_dim, LANES)."""
        E, parts = self.params["E"], blocks(len(x), x.shape[1], SUM_STEPS)
        y, bias = empty((*x.shape[:2], self.output_dim, LANES), E.dtype), np.zeros_like(E[0])

        def run(first: int, last: int) -> None:
            for part in parts[first:last]:
                check_wanted()
                project_codes(y[part], x[part], E, bias)

        for_spans(run, len(parts), y.size)
        return y, x

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradient of E; codes have none."""
        parts = blocks(len(dy), dy.shape[1], SUM_STEPS)
        sums = np.zeros((len(parts), *self.params["E"].shape), dy.dtype)

        def run(first: int, last: int) -> None:
            for n in range(first, last):
                check_wanted()
                project_codes_backward(dy[parts[n]], cache[parts[n]], sums[n : n + 1])

        for_spans(run, len(parts), dy.size)
        return None, {"E": add_in_order(sums)}
