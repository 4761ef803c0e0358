"""nnjit: Numba-jitted recurrent networks on long raw signals.

Names are imported when they are first used, so that ``import nnjit`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callbacks import Callback as Callback
    from .cells.check import check_cell as check_cell
    from .checkpoint import Checkpoint as Checkpoint
    from .classifier import Classifier as Classifier
    from .gradcheck import check_gradients as check_gradients
    from .layers import GRU as GRU
    from .layers import LSTM as LSTM
    from .layers import RNN as RNN
    from .layers import Codes as Codes
    from .layers import Dense as Dense
    from .layers import Dropout as Dropout
    from .layers import Flatten as Flatten
    from .layers import Recurrent as Recurrent
    from .layers import Signal as Signal
    from .model import Sequential as Sequential
    from .optimizers import SGD as SGD
    from .optimizers import Adam as Adam
    from .trainer import Trainer as Trainer

try:
    __version__ = version("nnjit")
except PackageNotFoundError:  # the source folder is on the path, but was never installed
    __version__ = "0+unknown"

_HOMES = {
    "layers": ("Codes", "Dense", "Dropout", "Flatten", "GRU", "LSTM", "RNN", "Recurrent", "Signal"),
    "cells.check": ("check_cell",),
    "model": ("Sequential",),
    "optimizers": ("SGD", "Adam"),
    "trainer": ("Trainer",),
    "callbacks": ("Callback",),
    "checkpoint": ("Checkpoint",),
    "classifier": ("Classifier",),
    "gradcheck": ("check_gradients",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME_OF, "datasets"])


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return import_module(".datasets", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"nnjit has no '{name}': it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
