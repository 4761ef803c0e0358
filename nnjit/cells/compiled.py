"""Turns the source of kernels into functions that Numba compiles and caches.

Numba's cache needs a file with the source. It is in the folder of compiled kernels, and its name
contains a hash of its content. Only the text in memory is run, never the content of the file.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, final

from ..kernels._jit import cache_folder
from .definition import Cell
from .rewrite import Steady, with_mask
from .source import Source, source

Kernel = Callable[..., None]


@final
class Kernels:
    """The kernels of a cell; they are compiled when they are first called.

    The kernels take their arrays in this order:

    - forward: ``a``, the weights, the states, the scratch arrays, the mask if there is one, and
      ``left``, (tiles, 1, 1, LANES), if they are ragged;
    - backward: the same, then ``dh`` and a carry for each state;
    - gradients: as forward without the weights and ``left``, then the gradient of each weight;

    and a `WorkShare` as the last argument. ``steady`` computes the weights from the parameters;
    with ``masked``, those of the cell with recurrent dropout. With ``ragged``, clips may end before
    the last step: ``left`` is the number of steps that each has left at the first step of a call.
    After the end of a clip its states do not change, and its gradients are 0.
    """

    def __init__(self, cell: Cell, masked: bool, ragged: bool) -> None:
        self.cell, self._masked, self._ragged = cell, masked, ragged
        self.steady = Steady(with_mask(cell) if masked else cell)

    def __deepcopy__(self, memo: Any) -> "Kernels":
        """Return the same object, which is immutable."""
        return self

    def __reduce__(self) -> Any:
        """Pickle the equations; the kernels are derived again from them."""
        return kernels, (self.cell, self._masked, self._ragged)

    @cached_property
    def source(self) -> Source:
        """The source of the kernels."""
        return source(self.steady.cell, self._ragged)

    @cached_property
    def _module(self) -> types.ModuleType:
        return module_of(self.cell.name, self.source.text)

    def functions(self, hidden_size: int) -> "Functions":
        """Return the kernels for ``hidden_size`` units; for one unit there are separate kernels."""
        return self._of_one if hidden_size == 1 else self._of_many

    @cached_property
    def _of_many(self) -> "Functions":
        module = self._module
        return Functions(module.forward, module.backward, module.gradients)

    @cached_property
    def _of_one(self) -> "Functions":
        module = self._module
        return Functions(module.forward_one, module.backward_one, module.gradients_one)


@final
@dataclass(frozen=True)
class Functions:
    """The three kernels of a cell; see `Kernels`."""

    forward: Kernel
    backward: Kernel
    gradients: Kernel


@lru_cache(maxsize=256)
def kernels(cell: Cell, masked: bool = False, ragged: bool = False) -> Kernels:
    """Return the kernels of a cell, cached."""
    return Kernels(cell, masked, ragged)


def module_of(name: str, text: str) -> types.ModuleType:
    """Return the module of a source."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return _module_of(f"{name}_{digest}", text)


@lru_cache(maxsize=256)
def _module_of(name: str, text: str) -> types.ModuleType:
    file = _written(f"{name}.py", text)
    module = types.ModuleType(f"nnjit_{name}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # Numba's cache looks there
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def _written(name: str, text: str) -> str:
    """Return the path of a file with the source, or a name in brackets if none can be written.

    The file's time is set to 0, since Numba's cache compares it: files with the same content are
    then equal, no matter when they were written.
    """
    folder = cache_folder()
    if folder is None:
        return f"<{name}>"
    path = folder / "cells" / name
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return str(path)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.utime(temporary, (0, 0))
        os.replace(temporary, path)
    except OSError:
        return f"<{name}>"
    return str(path)
