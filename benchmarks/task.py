"""What is measured, in words that every side understands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

CELLS = ("rnn", "gru", "lstm")
N_CLIPS, N_STEPS, LEVELS, BATCH = 171, 10_000, 16, 16  # the seed's training set
N_BATCHES = N_CLIPS // BATCH
LEARNING_RATE, UNITS, DROPOUT = 0.01, 64, 0.5


@dataclass(frozen=True)
class Recipe:
    """One of the seed's networks: a recurrent cell of one unit or none, then the dense layers."""

    name: str
    cell: str | None


RECIPES = (Recipe("ff", None), *(Recipe(cell, cell) for cell in CELLS))


@dataclass(frozen=True)
class Step:
    """One layer on one batch: all states, and while training all gradients of the parameters."""

    cell: str
    hidden_size: int
    batch: int
    codes: bool
    training: bool
    n_steps: int = 500
    n_features: int = 16

    @property
    def name(self) -> str:
        kind = "codes" if self.codes else "dense"
        return f"{self.cell} H={self.hidden_size} N={self.batch} {kind} " + (
            "training" if self.training else "inference"
        )


class Side(Protocol):
    """A framework: each function returns what is called again and again while it is timed."""

    def version(self) -> str: ...

    def epoch(self, recipe: Recipe) -> Callable[[], None]:
        """An epoch of training: batches of shuffled codes, update included."""

    def step(self, step: Step) -> Callable[[], None]: ...


def clips() -> tuple[np.ndarray, np.ndarray]:
    """Codes that are as good as music to a clock, (N_CLIPS, N_STEPS), and labels."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(N_CLIPS, N_STEPS)), axis=1) % (2 * np.pi)
    codes = np.floor((np.sin(walk) + 1) / 2 * (LEVELS - 1e-9)).astype(np.uint8)
    return codes, rng.integers(0, 2, N_CLIPS)
