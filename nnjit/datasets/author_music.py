"""The recordings of EpyNN's author notebook, downloaded once."""

import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError, DataError, SkippedFileWarning
from .base import Dataset, Recording
from .download import check_sha256, extract, fetch
from .encode import check_positive
from .listing import find_recordings
from .names import Name, root_folder

URL = "https://synthase.s3.us-west-2.amazonaws.com/author_music.tar"


class AuthorMusic(Dataset):
    """Guitar recordings of the True author (label 1) and of others (label 0).

    The archive is downloaded if `root` has no recordings yet; an interrupted transfer is resumed.
    The path of each recording below `root` contains `true` or `false`.

    Parameters
    ----------
    root : str or Path
        Folder of the recordings, which may not exist yet.
    url : str
        Address of the tar archive.
    max_gb : float
        Largest accepted size in GB (10^9 bytes), of the archive and of its content.
    sha256 : str or None
        SHA-256 of the archive, 64 hex digits; None accepts any.
    **options
        Options of `Dataset`.

    Raises
    ------
    ConfigError
        If an option is out of range or unknown.
    """

    name: ClassVar[str] = "author_music"

    def __init__(
        self,
        root: Path | Name = "runs/data/author_music",
        url: str = URL,
        max_gb: float = 2.0,
        sha256: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_positive("dataset.max_gb", max_gb)
        self.root = root_folder(root)
        self.url = url
        if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise ConfigError(f"dataset.sha256={sha256} does not work: set 64 hex digits, or null")
        self.sha256 = sha256
        self.max_bytes = int(max_gb * 1e9)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        return ("false", "true")

    def sources(self) -> list[Recording]:
        """List the recordings, after downloading them if necessary.

        Raises
        ------
        DataError
            If they cannot be downloaded or unpacked, or no path contains `true` or `false`.
        """
        recordings = self._list()
        if not recordings:
            self._download()
            recordings = self._list()
        if not recordings:
            raise DataError(
                f"no path below dataset.root={self.root} says true or false: "
                "put the recordings in folders named so"
            )
        return recordings

    def _list(self) -> list[Recording]:
        if not self.root.is_dir():
            return []
        recordings, left_out = [], []
        for recording in find_recordings(self.root, 0, self.root):
            label = _label_of(Path(recording.name).parent)
            if label is None:
                left_out.append(recording.name)
            else:
                recordings.append(replace(recording, label=label))
        if recordings and left_out:
            warnings.warn(
                f"{len(left_out)} file(s) in no folder that says true or false are left out, "
                f"{left_out[0]} for one: move them into one, or out of {self.root}",
                SkippedFileWarning,
                stacklevel=3,
            )
        return recordings

    def _download(self) -> None:
        if self.root.is_dir() and any(self.root.iterdir()):
            raise DataError(
                f"dataset.root={self.root} holds files, but none below a folder named true or "
                "false: move them there, or name an empty folder"
            )
        # In a temporary folder, so that `root` is complete or does not exist.
        work = self.root.with_name(self.root.name + ".download")
        archive, unpacked = work / "archive.tar", work / "unpacked"
        try:
            if not archive.exists():
                fetch(self.url, archive, self.max_bytes)
            if self.sha256 is not None:
                check_sha256(archive, self.sha256)
            shutil.rmtree(unpacked, ignore_errors=True)
            extract(archive, unpacked, self.max_bytes)
            os.replace(unpacked, self.root)
        except (DataError, OSError) as error:
            raise DataError(
                f"{error}; or put the recordings below {self.root}/true and "
                f"{self.root}/false by hand, or use dataset=guitar"
            ) from None
        shutil.rmtree(work, ignore_errors=True)


def _label_of(folder: Path) -> int | None:
    """Return the label of the outermost folder whose name contains either true or false."""
    for name in folder.parts:
        contains = ["false" in name.lower(), "true" in name.lower()]
        if sum(contains) == 1:
            return contains.index(True)
    return None
