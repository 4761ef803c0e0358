"""Cells by name: those of the library, and those of the user's files."""

import runpy
import traceback
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
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        raise CellError(f"{_place(path, error)}: the file cannot be run: {told}") from None
    if name in held and not isinstance(held[name], Cell | FunctionType):
        kind = type(held[name]).__name__
        raise CellError(f"cell={short(value)}: {name} is no function of equations, but a {kind}")
    if name not in held:
        cells = [key for key, other in held.items() if isinstance(other, Cell)]
        known = ", ".join(cells) or "no cell"
        raise CellError(f"cell={short(value)}: {path} has no {name}: it has {known}")
    return named(held[name])


def _place(path: str, error: BaseException) -> str:
    """Return the line of a file that an error comes from, or the file where none is told."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f"{path}:{lines[-1]}" if lines else path


def _of_library(name: str) -> Cell:
    if name not in CELLS:
        raise CellError(
            f"cell={short(name)} does not exist: {choose(name, [*CELLS])}, FILE.py:NAME"
        )
    return CELLS[name]
