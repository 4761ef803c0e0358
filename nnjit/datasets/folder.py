"""Your own recordings, one folder per class."""

from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError, DataError
from ..places import given_path
from .base import Dataset, Recording, find_recordings


class Folder(Dataset):
    """Recordings in folders, one folder per class, any number of classes.

    A recording is its file: a split by track never divides one. Files that cannot be used are
    left out with a warning.

    Parameters
    ----------
    root : str or Path
        Folder with one sub-folder per class; labels follow the alphabet.
    true, false : str, Path or None
        Instead of all sub-folders: the two that hold label 1 and label 0, as names below `root`
        or as paths.
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
        root: str | Path,
        true: str | Path | None = None,
        false: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = given_path(root)
        if not self.root.is_dir():
            raise DataError(f"dataset.root={root} is no folder: name one that exists")
        if (true is None) != (false is None) or (true is not None and true == false):
            raise ConfigError(
                f"dataset.true={true} and dataset.false={false}: set two folders, or neither"
            )
        if true is None or false is None:
            below = sorted(self.root.iterdir())
            self.class_folders = [p for p in below if p.is_dir() and p.name[0] != "."]
        else:
            self.class_folders = [self.root / given_path(f) for f in (false, true)]
        real = [folder.resolve() for folder in self.class_folders]
        for i, folder in enumerate(real):
            if any(folder.is_relative_to(other) for other in real[:i] + real[i + 1 :]):
                raise ConfigError(
                    f"dataset.true={true} and dataset.false={false} overlap: a recording must "
                    "belong to one class"
                )
        if len(self.class_folders) < 2:
            raise DataError(
                f"dataset.root={root} has {len(self.class_folders)} sub-folder(s): "
                "put the recordings of each class in one of its own, two or more"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label, the name of its folder."""
        names = [folder.name for folder in self.class_folders]
        distinct = len(set(names)) == len(names)
        return tuple(names if distinct else map(str, self.class_folders))

    def sources(self) -> list[Recording]:
        """List the recordings of each folder."""
        found = []
        for label, folder in enumerate(self.class_folders):
            recordings = find_recordings(folder, label, self.root)
            if not recordings:
                state = "holds no recordings" if folder.is_dir() else "does not exist"
                raise DataError(f"the folder {folder} {state}: put some there, or remove it")
            found += recordings
        return found
