"""Data sets: labelled recordings that become clips of symbols, split for training."""

from .audio import encode_file
from .author_music import AuthorMusic
from .base import Dataset, Recording
from .clips import Clips, DataSplits
from .encode import Encoding
from .folder import Folder
from .guitar import Guitar
from .karplus import Karplus

__all__ = [
    "AuthorMusic",
    "Clips",
    "DataSplits",
    "Dataset",
    "Encoding",
    "Folder",
    "Guitar",
    "Karplus",
    "Recording",
    "encode_file",
]
