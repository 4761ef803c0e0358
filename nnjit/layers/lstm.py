"""The LSTM layer."""

from typing import final

from ..cells import library
from .recurrent import Recurrent


@final
class LSTM(Recurrent):
    """``c = f * c' + i * g; h = o * tanh(c)`` (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

    ``f, i, o = sigmoid(x U + h' V + b)`` and ``g = tanh(...)``, in this order in U, V and b; h and
    c start at 0.

    Parameters
    ----------
    hidden_size
        H, the number of units.
    return_sequences
        All states, (N, T, H), instead of the last, (N, H).
    kernel_initializer, recurrent_initializer, bias_initializer
        For U, V and b; see `nnjit.initializers`.
    activations
        Replace those above, by gate: "forget", "input", "output" and "candidate"; see
        `nnjit.cells.gates`.
    forget_bias
        Initial value of the bias of f, such as 1 (Jozefowicz et al. 2015; unit_forget_bias in
        Keras); None draws it like the others.
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
        forget_bias: float | None = None,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            library.lstm,
            hidden_size,
            return_sequences,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            activations,
            forget_bias,
            recurrent_dropout,
        )
