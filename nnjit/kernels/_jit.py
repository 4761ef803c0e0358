"""The one decorator of every kernel: compile options, and a cache that cannot go stale."""

import contextlib
import hashlib
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numba
from numba.core import caching

# Numba's own cache looks at the file of the decorated function only: after a change in a helper of
# another file it returns the old machine code. So all kernels share a folder named by all sources.
_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, the user's cache or a temporary one.

    What lies there is run as it is, so a folder that others can write to does not count. None where
    there is none: kernels are then compiled in every process.
    """
    name = f"kernels-{_HASH}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given and (folder := _usable(Path(given) / name, shared=True)):
        return folder
    bases = []
    with contextlib.suppress(RuntimeError):  # no HOME, and a user that the system does not know
        bases.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnjit")
    for base in bases:
        if folder := _usable(base / name):
            return folder
    user = os.getuid() if hasattr(os, "getuid") else 0
    temporary = _usable(Path(tempfile.gettempdir()) / f"nnjit-{user}")
    return temporary and _usable(temporary / name)


def _usable(folder: Path, shared: bool = False) -> Path | None:
    """Return a folder, made where it is missing, if it can be written and by nobody else.

    Parameters
    ----------
    shared
        The user has named it: it may belong to somebody else or to a group.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o775 if shared else 0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if hasattr(os, "getuid"):
        strangers = stat.S_IWOTH if shared else stat.S_IWOTH | stat.S_IWGRP
        owned = shared or (found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode))
        if not owned or found.st_mode & strangers:
            return None
    return folder if os.access(folder, os.W_OK) else None


@final
class _Entries(caching.IndexDataCacheFile):
    """Numba's files of one kernel, where a damaged one only means: compile again."""

    def _load_index(self) -> Any:
        try:
            found = super()._load_index()
        except Exception:  # whatever reading a damaged pickle raises
            return {}
        return found if isinstance(found, dict) else {}

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() != digest:
            raise OSError(f"{name} is damaged")  # which Numba takes for a file that has gone
        return caching.pickle.loads(data)

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _data_name(self, number: int) -> str:
        """Return a new name: two processes would give the same number to different code."""
        return super()._data_name(uuid.uuid4().int >> 64)


@final
class _KernelCache(caching.FunctionCache):
    """Numba's cache, in our folder; where it cannot be written, nothing is kept."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        with _numba_caches_in(folder):
            super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Entries(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code for the next process; do without where the disk is full."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


@contextlib.contextmanager
def _numba_caches_in(folder: Path) -> Iterator[None]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


_FOLDER = cache_folder()


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel: cached, without the GIL, IEEE division, no assumption on NaN or infinity.

    Products and sums may be contracted to fused multiply-adds; nothing else is reordered, so a
    kernel returns the same bits in every process on one kind of processor.
    """
    kernel = numba.njit(**_OPTIONS)(function)
    if _FOLDER is not None and not numba.config.DISABLE_JIT:
        with contextlib.suppress(RuntimeError, OSError):  # the folder has gone meanwhile
            kernel._cache = _KernelCache(function, _FOLDER)
    return kernel


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of kernels that is always inlined: a call would cost more than its work."""
    return numba.njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)(function)


_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,  # nothing calls a kernel from C
}
