"""The GRU layer."""

from typing import final

from ..cells import library
from .recurrent import Recurrent


@final
class GRU(Recurrent):
    """``h = z * h' + (1 - z) * g`` (Cho et al. 2014); the state starts at 0.

    ``z, r = sigmoid(x U + h' V + b)`` and ``g = tanh(x Ug + (r * h') Vg + bg)``, in this order in
    U, V and b.

    Parameters
    ----------
    hidden_size
        H, the number of units.
    return_sequences
        All states, (N, T, H), instead of the last, (N, H).
    reset_after
        Apply r after the recurrent product, which then has a separate bias c:
        ``g = tanh(x Ug + bg + r * (h' Vg + c))``, the form of torch, cuDNN and ONNX.
    kernel_initializer, recurrent_initializer, bias_initializer
        For U, V and b; see `nnjit.initializers`.
    activations
        Replace those above, by gate: "update", "reset" and "candidate"; see `nnjit.cells.gates`.
    recurrent_dropout
        Fraction of the units that are dropped from products with V; see `Recurrent`.
    """

    def __init__(
        self,
        hidden_size: int,
        return_sequences: bool = False,
        reset_after: bool = False,
        kernel_initializer: str = "xavier",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
        activations: dict[str, str | None] | None = None,
        recurrent_dropout: float = 0.0,
    ) -> None:
        self.reset_after = reset_after
        super().__init__(
            library.gru_reset_after if reset_after else library.gru,
            hidden_size,
            return_sequences,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            activations,
            recurrent_dropout=recurrent_dropout,
        )
