"""Fetch an archive, resuming where a transfer broke off, and unpack its recordings safely."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import tarfile
import time
import urllib.error
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import DataError
from .progress import shown
from .web import Watch, request

_BLOCK = 1 << 18
# fmt: off
_AUDIO = {
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64",
    ".rf64",
}
# fmt: on


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
        Seconds to wait for an answer, and for each kilobyte a second of them to come in.

    Raises
    ------
    DataError
        If the address cannot be reached or leads elsewhere than to http and https, the transfer
        keeps breaking or is too slow, or the file is too large.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target.with_name(target.name + ".part"), url)
    for attempt in range(attempts):
        try:
            with Watch(timeout) as watch:
                complete = _fetch_rest(part, max_bytes, watch)
            if complete:
                part.finish(target)
                return
            reason = "the transfer broke off"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if watch.was_slow:
            reason = watch.why()
        if attempt < attempts - 1:
            time.sleep(min(2**attempt, 10) * 0.1)
    raise DataError(f"{url} cannot be fetched ({reason})")


class _Part:
    """What there is of a file, and beside it which address and version it is of."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self._about = path.with_name(path.name + ".json")
        if self._told("url") not in ("", url):  # one that says nothing is taken for ours
            self.drop()

    def _told(self, key: str) -> str:
        with contextlib.suppress(OSError, ValueError):
            about = json.loads(self._about.read_bytes())
            return str(about.get(key, "")) if isinstance(about, dict) else ""
        return ""

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def asked(self) -> dict[str, str]:
        """Return the headers that ask for the rest of the same version."""
        if not self.size:
            return {}
        version = self._told("version")
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": version} if version else {})

    def begin(self, headers: http.client.HTTPMessage) -> None:
        """Start anew with the version that an answer tells."""
        tag = headers.get("ETag", "")
        version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
        self.drop()
        about = json.dumps({"url": self.url, "version": version})
        self._about.write_text(about, encoding="utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        os.replace(self.path, target)
        self._about.unlink(missing_ok=True)


def _fetch_rest(part: _Part, max_bytes: int, watch: Watch) -> bool:
    """Append what is missing; return whether the file is complete."""
    have, url = part.size, part.url
    try:
        answer = request(url, part.asked(), watch)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if total == str(have):
            return True
        part.drop()  # longer than the file: left by something else
        return False
    with answer:
        length = answer.headers.get("Content-Length")
        total_bytes = None if length is None else int(length)
        if answer.status == 206:
            total_bytes = _total(part, answer.headers.get("Content-Range") or "")
        else:  # a server that does not know ranges, or has another version, sends the whole file
            part.begin(answer.headers)
            have = 0
        _check_size(url, total_bytes or 0, max_bytes)
        name = url.rpartition("/")[2] or url
        with part.path.open("ab") as file, shown(name, total_bytes) as report:
            while block := answer.read1(_BLOCK):
                watch.received += len(block)
                file.write(block)
                have += len(block)
                _check_size(url, have, max_bytes)
                report(have)
    return not watch.was_slow and (total_bytes is None or have == total_bytes)


def _total(part: _Part, content_range: str) -> int:
    """Return the size of the whole file, where an answer goes on from where the part ends."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range.strip())
    if told is None or int(told[1]) != part.size:
        part.drop()
        raise OSError(f"the rest was asked for, and {content_range or 'no range'} was answered")
    return int(told[2])


def check_sha256(file: Path, expected: str) -> None:
    """Raise DataError unless a file has this SHA-256, in 64 hex digits."""
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected.lower():
        raise DataError(
            f"{file} has the SHA-256 {found}, and dataset.sha256 is {expected}: "
            "delete it to fetch it again, or correct dataset.sha256"
        )


def _check_size(url: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(
            f"{url} has {size / 1e9:.3g} GB or more, above dataset.max_gb={max_bytes / 1e9:.3g}: "
            "raise the limit to allow it"
        )


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
