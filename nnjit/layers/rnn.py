"""The Elman RNN layer."""

from typing import final

from ..cells import library
from .recurrent import Recurrent


@final
class RNN(Recurrent):
    """``h = tanh(x U + h' V + b)`` (Elman 1990); the state starts at 0.

    Parameters
    ----------
    hidden_size
        H, the number of units.
    return_sequences
        All states, (N, T, H), instead of the last, (N, H).
    kernel_initializer, recurrent_initializer, bias_initializer
        For U, V and b; see `nnjit.initializers`.
    activations
        Replace those above, by gate: "candidate"; see `nnjit.cells.gates`.
    recurrent_dropout
        Fraction of the units that are dropped from products with V; see `Recurrent`.
    """

    def __init__(
        self,
        hidden_size: int,
        return_sequences: bool = False,
        kernel_initializer: str = "xavier",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
        activations: dict[str, str | None] | None = None,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            library.rnn,
            hidden_size,
            return_sequences,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            activations,
            recurrent_dropout=recurrent_dropout,
        )
