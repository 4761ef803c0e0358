"""Fetch an archive, resuming where a transfer broke off, and unpack its recordings safely."""

import http.client
import os
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import DataError
from ..text import printable, say

_BLOCK = 1 << 18
# fmt: off
_AUDIO = {
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64",
    ".rf64",
}
# fmt: on


class Report(Protocol):
    """Told how far a transfer is, in bytes."""

    def __call__(self, done: int) -> None:
        """Show `done` bytes of the total."""


def fetch(url: str, target: Path, max_bytes: int, attempts: int = 3, timeout: float = 30) -> None:
    """Download a file; what a broken transfer left in `<target>.part` is not fetched again.

    Parameters
    ----------
    url : str
        Address, http or https.
    target : Path
        Where the complete file appears, at once and only when it is complete.
    max_bytes : int
        Largest size accepted.
    attempts : int
        How often a broken transfer is resumed before giving up.
    timeout : float
        Seconds to wait for an answer.

    Raises
    ------
    DataError
        If the address cannot be reached, the transfer keeps breaking or the file is too large.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(attempts):
        try:
            if _fetch_rest(url, part, max_bytes, timeout):
                os.replace(part, target)
                return
            reason = "the transfer broke off"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt < attempts - 1:
            time.sleep(min(2**attempt, 10) * 0.1)
    raise DataError(f"{url} cannot be fetched ({reason})")


def _fetch_rest(url: str, part: Path, max_bytes: int, timeout: float) -> bool:
    """Append what is missing; return whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if total == str(have):
            return True
        part.unlink()  # longer than the file: left by something else
        return False
    with answer:
        # A server that does not know ranges sends the whole file, with status 200.
        if answer.status != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        total_bytes = have + int(length) if length is not None else None
        _check_size(url, total_bytes or 0, max_bytes)
        with part.open("ab" if have else "wb") as file, _progress(url, total_bytes) as report:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                _check_size(url, have, max_bytes)
                report(have)
    return total_bytes is None or have == total_bytes


def _check_size(url: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(
            f"{url} has {size / 1e9:.3g} GB or more, above dataset.max_gb={max_bytes / 1e9:.3g}: "
            "raise the limit to allow it"
        )


@contextmanager
def _progress(url: str, total: int | None) -> Iterator[Report]:
    """Show a bar on a terminal, else a line at every tenth."""
    name = url.rpartition("/")[2] or url
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=Console(stderr=True, markup=False, emoji=False, highlight=False)
        ) as bar:
            task = bar.add_task(printable(name), total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    shown = -1

    def line(done: int) -> None:
        nonlocal shown
        tenth = 10 * done // total if total else done // 100_000_000
        if tenth > shown:
            shown = tenth
            of = f" of {total / 1e6:.1f}" if total else ""
            say(f"{name}: {done / 1e6:.1f}{of} MB", sys.stderr)

    yield line


def extract(archive: Path, folder: Path, max_bytes: int) -> int:
    """Unpack the recordings of a tar archive; all names are checked before any is written.

    Only regular files with the extension of an audio format are taken: links, devices, hidden
    and other files stay inside.

    Parameters
    ----------
    archive : Path
        Tar file, compressed or not.
    folder : Path
        Where to unpack to.
    max_bytes : int
        Largest total size of the unpacked files.

    Returns
    -------
    int
        Number of files written.

    Raises
    ------
    DataError
        If the archive is damaged, holds a name that leads outside `folder`, or is too large.
    """
    try:
        with archive.open("rb") as file, _open_tar(file) as tar:
            members = [member for member in tar if member.isfile() and _is_audio(member.name)]
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise DataError(
                        f"{archive} holds {member.name!r}, outside its folder: delete it"
                    )
            size = sum(member.size for member in members)
            if size > max_bytes:
                raise DataError(
                    f"{archive} unpacks to {size / 1e9:.3g} GB, above "
                    f"dataset.max_gb={max_bytes / 1e9:.3g}: raise the limit to allow it"
                )
            tar.extractall(folder, members, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}): delete it, try again") from None
    return len(members)


def _open_tar(file: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r:*")


def _is_audio(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _AUDIO and not path.name.startswith(".")
