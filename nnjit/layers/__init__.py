"""The layers, and the kinds of data that pass between them."""

from .base import Layer, Parameter
from .bidirectional import Bidirectional
from .bptt import Bptt
from .conv import Conv1D
from .dense import Dense
from .dropout import Dropout, GaussianNoise, SpatialDropout1D
from .embedding import Embedding
from .flatten import Flatten
from .global_pooling import GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep
from .gru import GRU
from .lstm import LSTM
from .norms import BatchNormalization, LayerNormalization
from .pooling import AveragePooling1D, MaxPooling1D
from .recurrent import Recurrent
from .rnn import RNN
from .spec import Codes, FlatCodes, Signal, Vector

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        *(RNN, GRU, LSTM, Recurrent, Bidirectional, Embedding),
        *(Dense, Flatten, Dropout, Conv1D, AveragePooling1D, MaxPooling1D),
        *(GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep),
        *(LayerNormalization, BatchNormalization, SpatialDropout1D, GaussianNoise),
    )
}

__all__ = [
    "GRU",
    "LAYERS",
    "LSTM",
    "RNN",
    "AveragePooling1D",
    "BatchNormalization",
    "Bidirectional",
    "Bptt",
    "Codes",
    "Conv1D",
    "Dense",
    "Dropout",
    "Embedding",
    "FlatCodes",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "LastStep",
    "Layer",
    "LayerNormalization",
    "MaxPooling1D",
    "Parameter",
    "Recurrent",
    "Signal",
    "SpatialDropout1D",
    "Vector",
]
