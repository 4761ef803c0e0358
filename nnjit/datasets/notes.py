"""What was found out about files, and holds as long as nobody writes to them."""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, final

from .segments import DamagedError, seal, unseal

_SETTLED = 2_000_000_000  # ns; a file that was written later may be written again, unnoticed


@final
class State(NamedTuple):
    """What changes when a file is written or replaced: size, times in ns, and inode."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "State | None":
        """Return the state of a file, of what a link leads to; None where there is none."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@final
class Notes:
    """One line of text for each file, kept in a file of its own.

    Parameters
    ----------
    path : Path
        Where they are kept. What is there and cannot be read counts as nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: dict[str, Any] = {}
        with contextlib.suppress(OSError, DamagedError), path.open("rb") as file:
            notes = unseal(file)
            self._before = notes if isinstance(notes, dict) else {}
        self._now: dict[str, list[Any]] = {}

    def get(self, file: Path, state: State) -> str | None:
        """Return what was noted of a file in this state; it stays noted."""
        name = os.path.abspath(file)
        noted = self._before.get(name)
        if not isinstance(noted, list) or noted[:-1] != list(state):
            return None
        self._now[name] = noted
        return str(noted[-1])

    def put(self, file: Path, state: State, text: str) -> None:
        """Note something of a file that was in this state before and after it was found out."""
        if time.time_ns() - max(state.mtime, state.ctime) > _SETTLED:
            self._now[os.path.abspath(file)] = [*state, text]

    def save(self) -> None:
        """Keep what was noted or asked for, at once; an OSError says why it cannot be kept."""
        if self._now == self._before:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(seal(self._now))
            os.chmod(temporary, 0o644)
            os.replace(temporary, self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
