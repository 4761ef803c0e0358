"""How what a user has becomes what a model reads."""

from abc import ABC, abstractmethod
from typing import Any

from ..layers.spec import Codes, Signal


class InputEncoding(ABC):
    """Everything that turns a user's files into inputs of a model; it travels with the model."""

    @property
    @abstractmethod
    def inputs(self) -> Codes | Signal:
        """What a model reads: codes (N, T), or signals (N, T, D)."""

    @property
    @abstractmethod
    def step_in_figures(self) -> tuple[float, str]:
        """Length of a time step, and its unit."""

    @abstractmethod
    def describe(self) -> str:
        """Return what a clip is, in a few words."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values, for a model file or a tracker."""
