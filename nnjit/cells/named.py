"""Cells by name: from the library, or from files of the user."""

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

    A file is run, so the caller must trust the origin of the name.

    Raises
    ------
    CellError
        If there is no such cell, or its equations cannot be compiled.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, str):
        return from_file(value) if is_file(value) else _of_library(value)
    if callable(value):
        traced: Cell = cell(value)
        return traced
    return from_plain(value)


def is_file(value: Any) -> bool:
    """Tell whether a value is ``FILE.py:NAME`` or ``PACKAGE:NAME``."""
    return isinstance(value, str) and ":" in value


def from_file(value: str) -> Cell:
    """Run a file or import a package, and return the cell ``NAME`` in it.

    ``value`` is ``FILE.py:NAME`` or ``PACKAGE:NAME``, a cell or a function of equations.
    """
    path, _, name = value.rpartition(":")
    if not name.isidentifier():
        raise CellError(f"cell={short(value)}: write FILE.py:NAME, or the name of a cell of nnjit")
    if path.endswith(".py") and not Path(path).is_file():
        raise CellError(f"cell={short(value)}: there is no file {path}")
    try:
        values = runpy.run_path(path) if path.endswith(".py") else vars(import_module(path))
    except CellError:
        raise
    except (Exception, SystemExit) as error:
        message = error.msg if isinstance(error, SyntaxError) else error
        raise CellError(
            f"{_place(path, error)}: the file cannot be run: {type(error).__name__}: {message}"
        ) from None
    if name in values and not isinstance(values[name], Cell | FunctionType):
        kind = type(values[name]).__name__
        raise CellError(f"cell={short(value)}: {name} is no function of equations, but a {kind}")
    if name not in values:
        cells = [key for key, other in values.items() if isinstance(other, Cell)]
        known = ", ".join(cells) or "no cell"
        raise CellError(f"cell={short(value)}: {path} has no {name}: it has {known}")
    return named(values[name])


def _place(path: str, error: BaseException) -> str:
    """Return the line of a file that raised an error, or the file if the line is not known."""
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
