"""List the recordings below a folder; what cannot be looked at is told."""

import os
import stat
import warnings
from pathlib import Path

from ..errors import SkippedFileWarning
from .base import Recording

# fmt: off
_NOT_AUDIO = {
    ".txt", ".md", ".rst", ".pdf", ".html", ".jpg", ".jpeg", ".png", ".gif", ".svg", ".json",
    ".yaml", ".yml", ".toml", ".xml", ".csv", ".tsv", ".ini", ".cfg", ".log", ".py", ".ipynb",
    ".npy", ".npz", ".zip", ".tar", ".gz", ".bz2", ".xz", ".m3u", ".cue", ".nfo", ".mid", ".db",
}
# fmt: on


def find_recordings(folder: Path, label: int, root: Path) -> list[Recording]:
    """List the files below a folder that may be recordings, sorted by path.

    Parameters
    ----------
    folder : Path
        Searched with its sub-folders, behind symbolic links too; a folder that several paths lead
        to is read once. Hidden files and plain text, pictures, archives and the like are passed
        over; whatever else is there is tried.
    label : int
        Class of all of them.
    root : Path
        Folder that the names are relative to.

    Warns
    -----
    SkippedFileWarning
        For each folder that cannot be read, link that leads nowhere, and pipe or device.
    """
    found = []
    for path in sorted(_files(folder)):
        name = path.relative_to(root) if path.is_relative_to(root) else path
        found.append(Recording(name.as_posix(), label, path))
    return found


def sub_folders(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the folders in a folder and the files beside them that may be recordings, sorted.

    Hidden ones are left out; links are followed. Raises OSError where the folder cannot be read.
    """
    found: dict[str, list[Path]] = {"folder": [], "file": [], "": []}
    for entry in _inside(folder):
        found[_kind(entry)].append(folder / entry.name)
    return found["folder"], found["file"]


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder; of several paths to one the one without links counts."""
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting, behind_links = [folder], list[Path]()
    while waiting or behind_links:
        here = waiting.pop() if waiting else behind_links.pop(0)
        try:
            about = os.stat(here)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = _inside(here)
        except OSError as error:
            _skip(here, f"cannot be read ({error.strerror}): allow it, or remove it")
            continue
        entered = False  # a folder that may be listed may still not be entered
        for entry in entries:
            kind, path = _kind(entry, entered), here / entry.name
            entered = entered or kind != ""
            if kind == "file":
                files.append(path)
            elif kind == "folder":
                (behind_links if os.path.islink(path) else waiting).append(path)
    return files


def _inside(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(seen, key=lambda entry: folder / entry.name)


def _kind(entry: os.DirEntry[str], entered: bool = False) -> str:
    """Return "folder", "file" for what may be a recording, or "" for what is left out.

    Where files of the folder could be looked at, the list of the folder tells plain files.
    """
    path = Path(entry.path)
    not_audio = path.suffix.lower() in _NOT_AUDIO
    if entered and entry.is_file(follow_symlinks=False):
        return "" if not_audio else "file"
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = f"cannot be read ({error.strerror}): allow it, or remove it"
        if os.path.islink(path):
            reason = (
                f"is a link to {os.readlink(path)}, which cannot be read ({error.strerror}): "
                "fetch what it leads to, or remove it"
            )
        if not not_audio:
            _skip(path, reason)
        return ""
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        _skip(path, "is no regular file: remove it")
        return ""
    return "" if not_audio else "file"


def _skip(path: Path, reason: str) -> None:
    warnings.warn(f"{path} {reason}", SkippedFileWarning, stacklevel=2)
