"""nnjit: Numba-jitted recurrent networks on long raw signals.

Names are imported when they are first used, so that ``import nnjit`` is fast.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import Classifier as Classifier
    from .layers import GRU as GRU
    from .layers import LSTM as LSTM
    from .layers import RNN as RNN
    from .layers import AveragePooling1D as AveragePooling1D
    from .layers import BatchNormalization as BatchNormalization
    from .layers import Bidirectional as Bidirectional
    from .layers import Codes as Codes
    from .layers import Conv1D as Conv1D
    from .layers import Dense as Dense
    from .layers import Dropout as Dropout
    from .layers import Embedding as Embedding
    from .layers import Flatten as Flatten
    from .layers import GaussianNoise as GaussianNoise
    from .layers import GlobalAveragePooling1D as GlobalAveragePooling1D
    from .layers import GlobalMaxPooling1D as GlobalMaxPooling1D
    from .layers import LastStep as LastStep
    from .layers import LayerNormalization as LayerNormalization
    from .layers import MaxPooling1D as MaxPooling1D
    from .layers import Recurrent as Recurrent
    from .layers import Signal as Signal
    from .layers import SpatialDropout1D as SpatialDropout1D
    from .model import Sequential as Sequential
    from .ragged import Ragged as Ragged
    from .training.callbacks import Callback as Callback
    from .training.callbacks import EarlyStopping as EarlyStopping
    from .training.cellcheck import check_cell as check_cell
    from .training.checkpoint import Checkpoint as Checkpoint
    from .training.gradcheck import check_gradients as check_gradients
    from .training.lr_finder import LearningRateFinder as LearningRateFinder
    from .training.lr_finder import find_learning_rate as find_learning_rate
    from .training.norms import Norms as Norms
    from .training.optimizers import SGD as SGD
    from .training.optimizers import Adam as Adam
    from .training.optimizers import AdamW as AdamW
    from .training.optimizers import RMSprop as RMSprop
    from .training.run import TrainingRun as TrainingRun
    from .training.run_checkpoint import RunCheckpoint as RunCheckpoint
    from .training.trainer import Trainer as Trainer

try:
    __version__ = version("nnjit")
except PackageNotFoundError:  # the source folder is on the path, but was never installed
    __version__ = "0+unknown"

_HOMES = {
    "layers": (
        *("Codes", "Dense", "Dropout", "Flatten", "GRU", "LSTM", "RNN", "Recurrent", "Signal"),
        *("Bidirectional", "Embedding"),
        *("Conv1D", "AveragePooling1D", "MaxPooling1D"),
        *("GlobalAveragePooling1D", "GlobalMaxPooling1D", "LastStep"),
        *("BatchNormalization", "LayerNormalization", "GaussianNoise", "SpatialDropout1D"),
    ),
    "training.cellcheck": ("check_cell",),
    "model": ("Sequential",),
    "ragged": ("Ragged",),
    "training.optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "training.lr_finder": ("LearningRateFinder", "find_learning_rate"),
    "training.norms": ("Norms",),
    "training.trainer": ("Trainer",),
    "training.callbacks": ("Callback", "EarlyStopping"),
    "training.run": ("TrainingRun",),
    "training.run_checkpoint": ("RunCheckpoint",),
    "training.checkpoint": ("Checkpoint",),
    "classifier": ("Classifier",),
    "training.gradcheck": ("check_gradients",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("augmentation", "callbacks", "datasets", "losses", "metrics", "optimizers", "schedules")
__all__ = sorted([*_HOME_OF, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"nnjit has no '{name}': it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
