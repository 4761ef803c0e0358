"""The recurrent cells: for each, its kernels and the arrays that they work on.

The kernels of a cell take their arrays in this order:

- forward: ``a``, the weights, the states, the scratch arrays;
- backward: the same, then ``dh`` and a carry for each state;
- gradients: ``a``, the states, the scratch arrays, then the gradient of each weight.

A new cell is a file of kernels, a row here and a thin layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from ..kernels import gru, gru_reset_after, lstm, rnn


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
    forward_one: Callable[..., None]
    backward_one: Callable[..., None]
    gradients_one: Callable[..., None]
    states: tuple[str, ...] = ("h",)
    scratch: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("V",)

    def of_size(self, hidden_size: int) -> "Cell":
        """Return the cell with the kernels for so many units: one has kernels of its own."""
        if hidden_size > 1:
            return self
        return replace(
            self,
            forward=self.forward_one,
            backward=self.backward_one,
            gradients=self.gradients_one,
        )


RNN = Cell(
    1,
    rnn.rnn_forward,
    rnn.rnn_backward,
    rnn.rnn_gradients,
    rnn.rnn_forward_one,
    rnn.rnn_backward_one,
    rnn.rnn_gradients_one,
)
GRU = Cell(
    3,
    gru.gru_forward,
    gru.gru_backward,
    gru.gru_gradients,
    gru.gru_forward_one,
    gru.gru_backward_one,
    gru.gru_gradients_one,
    scratch=("m",),
)
GRU_RESET_AFTER = Cell(
    3,
    gru_reset_after.gru_reset_after_forward,
    gru_reset_after.gru_reset_after_backward,
    gru_reset_after.gru_reset_after_gradients,
    gru_reset_after.gru_reset_after_forward_one,
    gru_reset_after.gru_reset_after_backward_one,
    gru_reset_after.gru_reset_after_gradients_one,
    scratch=("q",),
    weights=("V", "c"),
)
LSTM = Cell(
    4,
    lstm.lstm_forward,
    lstm.lstm_backward,
    lstm.lstm_gradients,
    lstm.lstm_forward_one,
    lstm.lstm_backward_one,
    lstm.lstm_gradients_one,
    states=("h", "c"),
)
