"""The decorator of every kernel: compile options, and a cache that cannot become stale."""

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

# Numba's cache checks only the file of the decorated function: after a change of a helper elsewhere
# it would return old machine code. So the name of the folder has a hash of all sources.
_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, the user's cache or a temporary one.

    The machine code in it is run without a check, so a folder that other users can write to is not
    used. Without a usable folder the result is None, and every process compiles its kernels.
    """
    name = f"kernels-{_HASH}"
    configured = os.environ.get("NUMBA_CACHE_DIR")
    if configured and (folder := _usable(Path(configured) / name, shared=True)):
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
    """Return a folder, created if it is missing, if this user and no other can write to it.

    Parameters
    ----------
    shared
        The user has chosen it: it may belong to another user or to a group.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o775 if shared else 0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    if hasattr(os, "getuid"):
        others = stat.S_IWOTH if shared else stat.S_IWOTH | stat.S_IWGRP
        owned = shared or (status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode))
        if not owned or status.st_mode & others:
            return None
    return folder if os.access(folder, os.W_OK) else None


@final
class _Entries(caching.IndexDataCacheFile):
    """Numba's cache files of one kernel; if one is damaged, the kernel is compiled again."""

    def _load_index(self) -> Any:
        try:
            index = super()._load_index()
        except Exception:  # reading a damaged pickle can raise any error
            return {}
        return index if isinstance(index, dict) else {}

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() != digest:
            raise OSError(f"{name} is damaged")  # Numba treats it as a missing file
        return caching.pickle.loads(data)

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _data_name(self, number: int) -> str:
        """Return a unique name: two processes could give the same number to different code."""
        return super()._data_name(uuid.uuid4().int >> 64)


@final
class _KernelCache(caching.FunctionCache):
    """Numba's cache, in nnjit's folder; if the folder cannot be written, nothing is cached."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        with _numba_caches_in(folder):
            super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Entries(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save machine code for the next process; ignore a full disk."""
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
        with contextlib.suppress(RuntimeError, OSError):  # the folder was deleted meanwhile
            kernel._cache = _KernelCache(function, _FOLDER)
    return kernel


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that is always inlined in kernels: a call would cost more than its work."""
    return numba.njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)(function)


_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,  # nothing calls a kernel from C
}
