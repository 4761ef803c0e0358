"""The recurrent cells: for each, its kernels and the arrays that they work on.

The kernels take their arrays in this order:

- forward: ``a``, the weights, the states, the scratch arrays;
- backward: the same, then ``dh`` and a carry for each state;
- gradients: ``a``, the states, the scratch arrays, then the gradient of each weight.

A new cell is a file of kernels, a row here and a thin layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ..kernels.gru import gru_backward, gru_forward, gru_gradients
from ..kernels.gru_reset_after import (
    gru_reset_after_backward,
    gru_reset_after_forward,
    gru_reset_after_gradients,
)
from ..kernels.lstm import lstm_backward, lstm_forward, lstm_gradients
from ..kernels.rnn import rnn_backward, rnn_forward, rnn_gradients


@final
@dataclass(frozen=True)
class Cell:
    """One kind of recurrence with ``gates`` rows of H units in its projections.

    ``states`` are carried from step to step, the output first: (T + 1, H, LANES). ``scratch``
    arrays, (T, H, LANES), pass from one kernel to the next.
    """

    gates: int
    forward: Callable[..., None]
    backward: Callable[..., None]
    gradients: Callable[..., None]
    states: tuple[str, ...] = ("h",)
    scratch: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("V",)


RNN = Cell(1, rnn_forward, rnn_backward, rnn_gradients)
GRU = Cell(3, gru_forward, gru_backward, gru_gradients, scratch=("m",))
GRU_RESET_AFTER = Cell(
    3,
    gru_reset_after_forward,
    gru_reset_after_backward,
    gru_reset_after_gradients,
    scratch=("q",),
    weights=("V", "c"),
)
LSTM = Cell(4, lstm_forward, lstm_backward, lstm_gradients, states=("h", "c"))
