"""Data sets: labelled recordings and examples that become inputs of models, split for training."""

from .arrays import ArrayData, Arrays, Digits
from .audio import encode_file
from .author_music import AuthorMusic
from .base import Dataset, Recording
from .clips import Clips, DataSplits
from .encode import Encoding
from .folder import Folder
from .guitar import Guitar
from .inputs import InputEncoding
from .karplus import Karplus
from .labelled import LabelledData
from .strings import Strings

__all__ = [
    "ArrayData",
    "Arrays",
    "AuthorMusic",
    "Clips",
    "DataSplits",
    "Dataset",
    "Digits",
    "Encoding",
    "Folder",
    "Guitar",
    "InputEncoding",
    "Karplus",
    "LabelledData",
    "Recording",
    "Strings",
    "encode_file",
]
