"""The one decorator of every kernel: compile options, and a cache that cannot go stale."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba

# Numba's own cache looks at the file of the decorated function only: after a change in a helper of
# another file it returns the old machine code. So all kernels share a folder named by all sources.
_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]


def cache_folder() -> Path:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, the user's cache or a temp one."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    bases = [Path(os.environ.get("NUMBA_CACHE_DIR") or Path(user_cache) / "nnjit")]
    bases.append(Path(tempfile.gettempdir()) / f"nnjit-{os.getuid() if os.name == 'posix' else 0}")
    for base in bases:
        folder = base / f"kernels-{_HASH}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return bases[-1]


@contextlib.contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
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
    with _cache_in(_FOLDER):
        return numba.njit(cache=True, **_OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of kernels that is always inlined: a call would cost more than its work."""
    return numba.njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)(function)


_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,  # nothing calls a kernel from C
}
