"""The data set of a user's recordings, with one folder per class."""

import os
import unicodedata
import warnings
from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError, DataError, SkippedFileWarning
from ..runtime.places import given_path
from .base import Dataset, Recording
from .listing import find_recordings, sub_folders
from .names import Name, as_typed, root_folder


class Folder(Dataset):
    """Recordings in folders, one folder per class, any number of classes.

    A recording is a file, which a split by track never divides. Files that cannot be used are left
    out with a warning.

    Parameters
    ----------
    root : str or Path
        Folder with one sub-folder per class; labels are in alphabetical order.
    true, false : str, Path or None
        The folders of label 1 and label 0, instead of all sub-folders, as names below `root` or as
        paths. Here and in `root`, a number or a truth value means the folder with that name.
    **options
        Options of `Dataset`.

    Raises
    ------
    DataError
        If a folder is missing or empty, or there is only one class.
    ConfigError
        If only one of `true` and `false` is given, both are the same, or an option does not work.
    """

    name: ClassVar[str] = "folder"

    def __init__(
        self,
        root: Path | Name,
        true: Path | Name | None = None,
        false: Path | Name | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root_folder(root)
        if not os.path.isdir(self.root):  # also without permission to see it
            raise DataError(f"dataset.root={root} is no folder: name one that exists")
        try:
            below, beside = sub_folders(self.root)
        except OSError as error:
            raise DataError(
                f"dataset.root={root} cannot be read ({error.strerror}): allow it"
            ) from None
        if true is None and false is None:
            self.class_folders = below
            _warn_beside(beside)
        else:
            self.class_folders = self._chosen(true, false, [path.name for path in below])
        self._check_apart(f"dataset.true={true} and dataset.false={false}: " * (true is not None))
        if len(self.class_folders) < 2:
            raise DataError(
                f"dataset.root={root} has {len(self.class_folders)} sub-folder(s): "
                "put the recordings of each class in one of its own, two or more"
            )

    def _chosen(
        self, true: Path | Name | None, false: Path | Name | None, known: list[str]
    ) -> list[Path]:
        """Return the folders of label 0 and label 1."""
        chosen = []
        for key, value in (("false", false), ("true", true)):
            if value is None:
                raise ConfigError(
                    f"dataset.true={true} and dataset.false={false}: set two folders, or neither; "
                    f"one that is named null is written 'dataset.{key}=\"null\"'"
                )
            if not isinstance(value, Path):
                value = as_typed(f"dataset.{key}", value, known)
            chosen.append(self.root / given_path(value))
        return chosen

    def _check_apart(self, prefix: str) -> None:
        """Raise ConfigError if class folders overlap; warn if their names look alike."""
        real = [Path(os.path.realpath(folder)) for folder in self.class_folders]
        looks: dict[str, Path] = {}
        for i, folder in enumerate(self.class_folders):
            for j, other in enumerate(real):
                if i != j and real[i].is_relative_to(other):
                    raise ConfigError(
                        f"{prefix}the folders {folder} and {self.class_folders[j]} overlap: "
                        "a recording must belong to one class"
                    )
            look = unicodedata.normalize("NFKC", folder.name).casefold().strip()
            if (twin := looks.setdefault(look, folder)) is not folder and not prefix:
                warnings.warn(
                    f"the folders {twin.name!r} and {folder.name!r} differ in the spelling of one "
                    "name alone, and are two classes: merge them if they are one",
                    stacklevel=3,
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label: the name of its folder."""
        names = [folder.name for folder in self.class_folders]
        distinct = len(set(names)) == len(names)
        return tuple(names if distinct else map(str, self.class_folders))

    def sources(self) -> list[Recording]:
        """List the recordings of each folder."""
        listed = []
        for label, folder in enumerate(self.class_folders):
            if not os.path.isdir(folder):
                raise DataError(f"the folder {folder} does not exist: name one that does")
            recordings = find_recordings(folder, label, self.root)
            if not recordings:
                raise DataError(
                    f"the folder {folder} holds no recordings: put some there, or remove it"
                )
            listed += recordings
        return listed


def _warn_beside(files: list[Path]) -> None:
    if files:
        warnings.warn(
            f"{len(files)} file(s) beside the folders of the classes are left out, {files[0]} for "
            "one: move them into a class, or remove them",
            SkippedFileWarning,
            stacklevel=3,
        )
