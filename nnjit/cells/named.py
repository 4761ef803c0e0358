"""Cells by name: those of the library, and those of the user's files."""

import runpy
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from ..errors import CellError, short
from ..options import choose
from .definition import Cell
from .library import CELLS
from .text import from_plain
from .trace import cell


def named(value: Any) -> Cell:
    """Return a cell from its name, from ``FILE.py:NAME``, a function, or its equations.

    A file is run: whoever passes a name on must know where it comes from.

    Raises
    ------
    CellError
        Where there is no such cell, or its equations cannot be compiled.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, str):
        return from_file(value) if is_file(value) else _of_library(value)
    if callable(value):
        made: Cell = cell(value)
        return made
    return from_plain(value)


def is_file(value: Any) -> bool:
    """Tell whether a value is ``FILE.py:NAME`` or ``PACKAGE:NAME``."""
    return isinstance(value, str) and ":" in value


def from_file(value: str) -> Cell:
    """Return the cell ``NAME`` of ``FILE.py:NAME`` or ``PACKAGE:NAME``, which is run.

    It is a cell, or a function that is made one.
    """
    path, _, name = value.rpartition(":")
    if not name.isidentifier():
        raise CellError(f"cell={short(value)}: write FILE.py:NAME, or the name of a cell of nnjit")
    if path.endswith(".py") and not Path(path).is_file():
        raise CellError(f"cell={short(value)}: there is no file {path}")
    try:
        held = runpy.run_path(path) if path.endswith(".py") else vars(import_module(path))
    except CellError:
        raise
    except Exception as error:
        raise CellError(f"cell={short(value)}: {path} cannot be run: {error}") from None
    if not isinstance(held.get(name), Cell | FunctionType):
        cells = [key for key, other in held.items() if isinstance(other, Cell)]
        known = ", ".join(cells) or "no cell"
        raise CellError(f"cell={short(value)}: {path} has no {name}: it has {known}")
    return named(held[name])


def _of_library(name: str) -> Cell:
    if name not in CELLS:
        raise CellError(
            f"cell={short(name)} does not exist: {choose(name, [*CELLS])}, FILE.py:NAME"
        )
    return CELLS[name]
