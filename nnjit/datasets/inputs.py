"""How what a user has becomes what a model reads."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from ..layers.spec import Codes, Signal


class Words(NamedTuple):
    """What messages call the inputs of a kind, each as one noun.

    Attributes
    ----------
    clip : str
        What a model judges.
    track : str
        What no set of a split shares with another.
    source : str
        What a user adds where there is too little.
    option : str
        How `nnjit.predict` is given some.
    of_one : bool
        All clips of a file are of one thing, which is judged as a whole.
    """

    clip: str
    track: str
    source: str
    option: str
    of_one: bool = False


RECORDINGS = Words("clip", "track", "recording", "audio=FILE_OR_FOLDER", of_one=True)
EXAMPLES = Words("example", "group", "example", "input=FILE_OR_FOLDER")
STRINGS = Words("piece", "string", "string", "input=FILE_OR_FOLDER")


class InputEncoding(ABC):
    """Everything that turns a user's files into inputs of a model; it travels with the model."""

    words: ClassVar[Words]

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
