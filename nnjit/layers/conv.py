"""Convolution over time: windows of a view, and the products of recurrent layers' inputs."""

from collections.abc import Iterator
from typing import Any, final

import numpy as np

from .. import activations
from ..options import check_counts
from ..runtime.memory import empty
from .arrays import Lengths
from .base import Array, Gradients, Layer, Parameter
from .projection import activate, activate_backward, project, project_gradients
from .spec import Spec
from .steps import signal
from .windows import Windows, folded, unfolded, views


@final
class Conv1D(Layer):
    """``y[t] = f(sum of x[t strides + k dilation_rate - before] W[k] + b)`` with W (K, D, filters).

    The products are cross-correlations, as everywhere; padding is as in Keras.

    Parameters
    ----------
    filters
        Number of outputs of a step.
    kernel_size
        K, the steps of a window.
    strides
        Steps from one window to the next.
    padding
        "valid": windows inside the signal only; "same": zeros on both sides, a window for every
        step; "causal": zeros before, so that a window ends at its step.
    dilation_rate
        Steps from one to the next in a window; above 1 only where ``strides`` is 1.
    activation
        f: a name, or ``{"name": "leaky_relu", "slope": 0.1}``; see `nnjit.activations`.
    kernel_initializer, bias_initializer
        For W and b; see `nnjit.initializers`.

    Raises
    ------
    ConfigError
        Where a number is below 1, or there is no such padding.
    """

    takes = ("lengths",)
    needs_all_steps = True

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "valid",
        dilation_rate: int = 1,
        activation: str | dict[str, Any] | activations.Activation = "identity",
        kernel_initializer: str = "xavier",
        bias_initializer: str = "zeros",
    ) -> None:
        counts = {"filters": filters, "kernel_size": kernel_size, "strides": strides}
        check_counts("Conv1D", **counts, dilation_rate=dilation_rate)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation_rate = dilation_rate
        self.activation = activations.get(activation)
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self._windows = Windows("Conv1D", kernel_size, strides, padding, dilation_rate)

    def connect(self, spec: Spec) -> Spec:
        """Take sequences only; see `Layer.connect`."""
        return self._windows.outputs(signal(self.name, spec), self.filters, self.name)

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return W and b; see `Layer.parameters`."""
        D = signal(self.name, spec).n_features
        return {
            "W": Parameter(self.kernel_initializer, (self.kernel_size, D, self.filters)),
            "b": Parameter(self.bias_initializer, (self.filters,)),
        }

    def lengths_after(self, lengths: Array) -> Array:
        """Return the windows of each clip; see `Layer.lengths_after`."""
        found: Array = self._windows.count(lengths)
        return found

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        lengths: Lengths = None,
    ) -> tuple[Array, Any]:
        """Return (tiles, T', filters, LANES), T' the number of windows."""
        self._windows.check_lengths(lengths, self.name)
        W, T, rate = self.params["W"], x.shape[1], self.dilation_rate
        padded = folded(self._windows.padded(x, lengths), rate)
        windows = views(padded, self.kernel_size, self.strides)
        z = empty((*windows.shape[:2], self.filters, x.shape[3]), W.dtype)
        project(z, windows, W.reshape(-1, self.filters), self.params["b"])
        z = unfolded(z, rate, self._windows.count(T))
        y = activate(self.activation, z)
        return y, (windows, padded.shape, y, z, T, lengths)

    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of x, W and b."""
        windows, shape, y, z, T, lengths = cache
        dz = folded(activate_backward(self.activation, dy, y, z), self.dilation_rate)
        dW, db = project_gradients(dz, windows)
        grads = {"W": dW.reshape(self.params["W"].shape), "b": db}
        if self.is_first:
            return None, grads
        dx = self._of_inputs(dz, shape)
        whole = unfolded(dx, self.dilation_rate, self._windows.covered(T))
        return self._windows.unpadded(whole, T, lengths), grads

    def _of_inputs(self, dz: Array, shape: tuple[int, ...]) -> Array:
        """Return the gradient of the steps that windows cover, from that of the logits."""
        W, dx = self.params["W"], empty(shape, dz.dtype)
        (tiles, S, _, lanes), stride = shape, self.strides
        most = -(-self.kernel_size // stride)  # windows that a step lies in
        padded = np.zeros((tiles, most - 1 + -(-S // stride), dz.shape[2], lanes), dz.dtype)
        padded[:, most - 1 : most - 1 + dz.shape[1]] = dz
        for phase, weights in self._turned(W, stride):
            mine = dx[:, phase::stride]
            if weights is None:
                mine[:] = 0
                continue
            n = len(weights) // dz.shape[2]
            around = views(padded[:, most - n :], n)[:, : mine.shape[1]]
            project(mine, around, weights)
        return dx

    @staticmethod
    def _turned(W: Array, stride: int) -> Iterator[tuple[int, Array | None]]:
        """Yield for each phase of a stride the weights between it and the windows it lies in.

        They are (windows * filters, D), the first window first; None where it lies in none.
        """
        for phase in range(stride):
            taps = W[phase::stride][::-1].transpose(0, 2, 1)
            if len(taps):
                yield phase, np.ascontiguousarray(taps.reshape(-1, W.shape[1]))
            else:
                yield phase, None
