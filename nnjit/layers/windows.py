"""Windows over the steps of sequences: where they begin, and views of them."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ..errors import ConfigError, ShapeError
from ..runtime.memory import empty
from ..runtime.threads import for_spans
from .arrays import Lengths
from .base import Array
from .spec import Signal

PADDINGS = ("valid", "same", "causal")


@final
@dataclass(frozen=True)
class Windows:
    """Windows of ``size`` steps that are ``rate`` apart, one every ``stride`` steps.

    ``padding`` says what is before and behind the signal: "valid" nothing, "same" as much before as
    behind, so that there is a window for every step (or for one of ``stride``), "causal" all of it
    before, so that a window ends at its step. Names and counts are those of Keras.

    Raises
    ------
    ConfigError
        Where there are no such windows.
    """

    name: str  # of the layer
    size: int
    stride: int
    padding: str
    rate: int = 1
    paddings: tuple[str, ...] = PADDINGS

    def __post_init__(self) -> None:
        if self.padding not in self.paddings:
            raise ConfigError(
                f"{self.name} padding={self.padding} does not exist: "
                f"choose from {', '.join(self.paddings)}"
            )
        if self.stride > 1 and self.rate > 1:
            raise ConfigError(
                f"{self.name} strides={self.stride} with dilation_rate={self.rate}: one must be 1"
            )

    @property
    def span(self) -> int:
        """Steps from the first to the last of a window, both included."""
        return (self.size - 1) * self.rate + 1

    def outputs(self, spec: Signal, n_features: int, layer: str) -> Signal:
        """Return what comes out with so many features.

        Raises
        ------
        ShapeError
            Where there are no windows, or no layer can place them.
        """
        T = spec.n_steps
        if T is None:
            if self.padding == "same" and self.stride > 1:
                raise ShapeError(
                    f"{layer}: with padding=same and strides={self.stride} windows begin where the "
                    "length of a clip says, and clips have any: take padding=causal or valid"
                )
            return Signal(None, n_features)
        self.check(T, layer)
        return Signal(self.count(T), n_features)

    def check(self, T: int, layer: str) -> None:
        """Raise ShapeError where a clip of T steps is too short for a window."""
        if self.padding == "valid" and self.span > T:
            raise ShapeError(
                f"{layer} has windows of {self.span} steps, and a clip of {T} has none: "
                "make them shorter, or set padding=same"
            )

    def check_lengths(self, lengths: Lengths, layer: str) -> None:
        """Do what `check` does for the shortest clip."""
        if lengths is not None:
            self.check(int(lengths.min()), layer)

    def count(self, T: Any) -> Any:
        """Return how many windows clips of T steps have; also for an array of them."""
        if self.padding == "valid":
            return (T - self.span) // self.stride + 1
        return -(-T // self.stride)

    def covered(self, T: int) -> int:
        """Return the steps from the beginning of the first window to the end of the last."""
        return (int(self.count(T)) - 1) * self.stride + self.span

    def before(self, T: int) -> int:
        """Return the steps of padding before the signal."""
        if self.padding == "valid":
            return 0
        return self.span - 1 if self.padding == "causal" else max(0, self.covered(T) - T) // 2

    def padded(self, x: Array, lengths: Lengths, fill: float = 0.0) -> Array:
        """Return all steps that windows cover, with ``fill`` outside the clips; perhaps a view."""
        tiles, T = x.shape[:2]
        left, covered = self.before(T), self.covered(T)
        if left == 0 and covered <= T and (lengths is None or self.padding != "same"):
            return x[:, :covered]
        end = left + min(T, covered - left)
        out = empty((tiles, covered, *x.shape[2:]), x.dtype)

        def run(first: int, last: int) -> None:
            out[first:last, :left] = fill
            out[first:last, left:end] = x[first:last, : end - left]
            out[first:last, end:] = fill

        for_spans(run, tiles, x.size)
        if lengths is not None and self.padding == "same":
            np.copyto(out[:, left:end], fill, where=behind(lengths, end - left))
        return out

    def unpadded(self, dx: Array, T: int, lengths: Lengths) -> Array:
        """Return the gradient of T steps, from that of what `padded` returned."""
        left, covered = self.before(T), dx.shape[1]
        if left + T > covered:
            whole = np.zeros((len(dx), T, *dx.shape[2:]), dx.dtype)
            whole[:, : covered - left] = dx[:, left:]
        else:
            whole = dx[:, left : left + T]
        if lengths is not None and self.padding == "same":
            np.copyto(whole, 0, where=behind(lengths, T))
        return whole


def behind(lengths: Array, T: int) -> Array:
    """Return where the steps behind the ends of clips are, (tiles, T, 1, LANES)."""
    steps: Array = np.arange(T)[:, None, None] >= lengths[:, None, None]
    return steps


def folded(x: Array, rate: int) -> Array:
    """Return every ``rate``-th step as a sequence, (tiles * rate, T / rate, D, LANES)."""
    if rate == 1:
        return x
    tiles, T, D, lanes = x.shape
    steps = -(-T // rate)
    out = np.zeros((tiles, rate, steps, D, lanes), x.dtype)
    for phase in range(rate):
        mine = x[:, phase::rate]
        out[:, phase, : mine.shape[1]] = mine
    return out.reshape(tiles * rate, steps, D, lanes)


def unfolded(x: Array, rate: int, T: int) -> Array:
    """Return what `folded` makes of T steps as it was before."""
    if rate == 1:
        return x
    _, steps, D, lanes = x.shape
    whole = x.reshape(-1, rate, steps, D, lanes).transpose(0, 2, 1, 3, 4)
    return whole.reshape(-1, steps * rate, D, lanes)[:, :T]


def views(x: Array, size: int, stride: int = 1) -> Array:
    """Return all windows as one view, (tiles, windows, size * D, LANES): nothing is copied."""
    tiles, T, D, lanes = x.shape
    if x.strides[1:] != (D * lanes * x.itemsize, lanes * x.itemsize, x.itemsize):
        x = np.ascontiguousarray(x)
    shape = tiles, (T - size) // stride + 1, size * D, lanes
    strides = x.strides[0], stride * x.strides[1], *x.strides[2:]
    return np.lib.stride_tricks.as_strided(x, shape, strides)
