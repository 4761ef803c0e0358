"""The interface of a layer."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from .. import initializers
from ..activations import Activation
from ..parts import Part
from .spec import Spec

Array = NDArray[Any]
Gradients = dict[str, Any]  # by parameter name: arrays, or their factors


@final
@dataclass(frozen=True)
class Parameter:
    """An array that a layer trains: blocks along its last axis, each drawn separately.

    Attributes
    ----------
    initializer : str
        See `nnjit.initializers`.
    block : tuple of int
        Shape of a block.
    n_blocks : int
        Blocks along the last axis, such as one for each gate.
    starts : tuple
        For each block, if any, its first value instead of the initializer: a number, the bounds of
        a uniform distribution, or None.

    Raises
    ------
    ConfigError
        If there is no such initializer.
    """

    initializer: str
    block: tuple[int, ...]
    n_blocks: int = 1
    starts: tuple[float | tuple[float, float] | None, ...] = ()

    def __post_init__(self) -> None:
        initializers.get(self.initializer)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        return (*self.block[:-1], self.block[-1] * self.n_blocks)

    def draw(self, rng: np.random.Generator, dtype: Any) -> Array:
        """Return a new array."""
        starts = self.starts or (None,) * self.n_blocks
        return np.hstack([self._draw_block(start, rng, dtype) for start in starts])

    def _draw_block(
        self, start: float | tuple[float, float] | None, rng: np.random.Generator, dtype: Any
    ) -> Array:
        if start is None:
            return initializers.fill(self.initializer, self.block, rng, dtype)
        if isinstance(start, tuple):
            return rng.uniform(*start, self.block).astype(dtype)
        return np.full(self.block, start, dtype)


class Layer(Part, ABC):
    """A function with parameters, and its derivative; arrays are tiled, see `spec`.

    The attributes of a layer are its options (the arguments of its constructor, under the same
    names) and its parameters. All that `backward` needs is in the cache that `forward` returns, and
    `backward` updates no parameter. A cache is for one call of `backward`, which may overwrite it.
    """

    name: str = ""
    is_first: bool = False  # no layer before it needs the gradients of its inputs
    takes: ClassVar[tuple[str, ...]] = ()  # optional arguments of forward: "lengths", "n_clips"
    chance: ClassVar[tuple[str, ...]] = ()  # options that are 0 where nothing is random
    moves: ClassVar[bool] = False  # whether forward changes parameters while training
    needs_all_steps: ClassVar[bool] = False  # whether it cannot process a stream in pieces
    params: dict[str, Array]

    @abstractmethod
    def connect(self, spec: Spec) -> Spec:
        """Prepare for inputs of this kind; return the kind of the outputs. Nothing is allocated.

        Raises
        ------
        ShapeError
            If the layer cannot take such inputs.
        """

    def parameters(self, spec: Spec) -> dict[str, Parameter]:
        """Return the parameters for such inputs, by name, in the order in which they are drawn."""
        return {}

    def build(self, spec: Spec, rng: np.random.Generator, dtype: Any) -> Spec:
        """Draw the parameters for inputs of this kind; return the kind of outputs (`connect`)."""
        outputs = self.connect(spec)
        self.params = {name: p.draw(rng, dtype) for name, p in self.parameters(spec).items()}
        return outputs

    @abstractmethod
    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return the outputs and the cache; ``rng`` feeds random layers while training."""

    @abstractmethod
    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs (None for codes) and of the parameters."""

    def inner(self) -> Iterator["Layer"]:
        """Yield the layer, and those that it is made of."""
        yield self

    def lengths_after(self, lengths: Array) -> Array:
        """Return the steps of clips in the outputs, from those in the inputs, (tiles, LANES)."""
        return lengths

    def config(self) -> dict[str, Any]:
        """Return the class and its options, from which the layer can be made again."""
        options = {key: getattr(self, key) for key in inspect.signature(type(self)).parameters}
        for key, value in options.items():
            if isinstance(value, Activation):
                options[key] = value.config()
        return {"layer": type(self).__name__, **options}

    @classmethod
    def recorded(cls, options: dict[str, Any]) -> "Layer":
        """Return a layer from the options of `config`, which may come from an untrusted file."""
        return cls(**options)

    def n_params(self) -> int:
        """Return the number of trained values."""
        return sum(value.size for value in self.params.values())

    def __repr__(self) -> str:
        config = self.config()
        options = ", ".join(f"{key}={value!r}" for key, value in config.items() if key != "layer")
        return f"{config['layer']}({options})"
