"""Files of examples: arrays, tables, and series of archives. Nothing is unpickled.

Whatever a file holds comes out as an array (N, T, D) of finite numbers, and NaN for missing values
where they are asked for, as examples of unequal length, or as one line that says what does not fit.
"""

import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError, first_line
from ..ragged import Data, Ragged
from ..runtime import memory
from .reader import open_regular

_LARGEST = 1e15  # squares of values and their sums stay well inside float32
_MOST_LINE = 1 << 28  # characters of one line of a text file


class Examples(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    x : array, shape (N, T, D), or Ragged
        Finite numbers, or NaN where `read_examples` takes gaps; `Ragged` where not all examples
        have the same number of steps T.
    y : list of str or None
        Class of each example; None where the file tells none.
    group : list of str or None
        What must not be divided by a split, where the file tells it.
    """

    x: Data
    y: list[str] | None
    group: list[str] | None


def read_examples(
    path: Path, target: str = "y", group: str = "group", gaps: bool = False
) -> Examples:
    """Read a file of examples; its ending tells the format.

    Parameters
    ----------
    path : Path
        ``.npz`` with arrays x (N, T) or (N, T, D), and y and group (N,), or with lengths (N,) and
        x of all examples behind one another, (M,) or (M, D), or padded; ``.npy`` with x alone;
        ``.csv`` and ``.parquet`` with a row for each example and a column for each step; ``.arff``
        and ``.ts`` of the UCR and UEA archives, where the class comes last; ``.tsv`` and ``.txt``
        of the UCR archive, where its number comes first.
    target, group : str
        Arrays of ``.npz``, or columns of ``.csv`` and ``.parquet``, that are no values.
    gaps : bool
        Missing values come out as NaN; False refuses them.

    Raises
    ------
    DataError
        If it cannot be read, or does not hold examples.
    """
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise DataError(f"{path} has no known format: use {', '.join(_READERS)}")
    try:
        with open_regular(path) as file:
            found = _READERS[ending](file, target, group)
    except DataError as error:
        text = str(error).replace("cannot be read as audio", "cannot be read")
        raise DataError(f"{path} {text}") from None
    except (MemoryError, RecursionError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): use another") from None
    except Exception as error:  # whatever a library raises for a damaged file
        told = first_line(error)[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read ({told}): export it again") from None
    try:
        return _checked(found, gaps)
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def _checked(found: Examples, gaps: bool) -> Examples:
    x = found.x
    if isinstance(x, Ragged) and len(set(x.lengths.tolist())) == 1:
        x = x.values.reshape(len(x), x.lengths[0], *x.values.shape[1:])
    numbers = _numbers(x.values, 2) if isinstance(x, Ragged) else _numbers(x, 3)
    x = Ragged(numbers, x.lengths) if isinstance(x, Ragged) else numbers
    if _are_large(numbers).any():
        raise DataError(f"has a value beyond {_LARGEST:g} {_where(x, _are_large)}: leave it out")
    if not gaps and np.isnan(numbers).any():
        raise DataError(
            f"has a missing value {_where(x, np.isnan)}: train with dataset.missing=mean, "
            "interpolate or zero, which fill them in, leave these examples out, or save an .npz "
            "with lengths where they only end earlier"
        )
    for name, values in (("y", found.y), ("group", found.group)):
        if values is not None and len(values) != len(x):
            raise DataError(f"holds {len(x)} examples but {len(values)} of {name}: give each one")
    return Examples(x, found.y, found.group)


def _numbers(x: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return numbers with an axis of features, the last of so many; DataError for anything else."""
    x = x[..., None] if x.ndim == ndim - 1 else x
    if x.ndim != ndim:
        raise DataError(f"holds x of shape {x.shape}: make it (N, T) or (N, T, D)")
    if x.dtype.kind not in "fiub":
        raise DataError(f"holds x of type {x.dtype}: make it numbers")
    if 0 in x.shape:
        raise DataError(f"holds no examples (x of shape {x.shape}): add some")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _are_large(x: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        large: NDArray[np.bool_] = np.abs(x) > _LARGEST
    return large


def _where(x: Data, test: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> str:
    """Return in words which examples have values of which a test holds."""
    bad = [i for i, example in enumerate(x) if test(example).any()]
    return f"in example {bad[0]}, one of {len(bad)} with such"


def as_names(values: NDArray[Any], what: str) -> list[str]:
    """Return labels or groups (N,) as text; DataError where they are no names or numbers."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iubfUS":
        raise DataError(
            f"holds {what} of type {values.dtype} and shape {values.shape}: make it (N,)"
        )
    if values.dtype.kind == "S":
        return [v.decode("utf-8") for v in values.tolist()]
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DataError(
                f"lacks {what} of example {int(np.argmin(np.isfinite(values)))}: add it"
            )
        if (values == np.round(values)).all() and np.abs(values).max(initial=0) < 2**53:
            values = values.astype(np.int64)  # the classes 1.0 and 2.0 of many exports
    named = [str(v) for v in values.tolist()]
    if "" in named:
        raise DataError(f"lacks {what} of example {named.index('')}: add it")
    return named


def _npz(file: BinaryIO, target: str, group: str) -> Examples:
    with zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
        if "x" not in members:
            held = ", ".join(sorted(members)[:9]) or "nothing"
            raise DataError(
                f"has no array x, but {held}: name the examples x and the classes {target}"
            )
        arrays = {}
        for name in ("x", "lengths", target, group):
            if name in members:
                with archive.open(members[name]) as member:
                    arrays[name] = _array(member, members[name].file_size, name)
    return Examples(
        _cut(arrays["x"], arrays["lengths"]) if "lengths" in arrays else arrays["x"],
        as_names(arrays[target], target) if target in arrays else None,
        as_names(arrays[group], group) if group in arrays else None,
    )


def _cut(x: NDArray[Any], lengths: NDArray[Any]) -> Ragged:
    """Return examples of so many steps, which lie behind one another, or else are padded."""
    try:
        is_flat = lengths.ndim == 1 and lengths.dtype.kind in "iu" and lengths.sum() == len(x)
        return Ragged(x, lengths) if is_flat or x.ndim < 2 else Ragged.padded(x, lengths)
    except ShapeError as error:
        raise DataError(f"holds lengths that do not fit x: {error}") from None


def _npy(file: BinaryIO, target: str, group: str) -> Examples:
    return Examples(_array(file, os.fstat(file.fileno()).st_size, "x"), None, None)


def read_labels(path: Path) -> list[str]:
    """Return the classes (N,) in a ``.npy`` file; DataError where it holds anything else."""
    try:
        with open_regular(path) as file:
            return as_names(_array(file, os.fstat(file.fileno()).st_size, "labels"), "labels")
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    except Exception as error:
        raise DataError(
            f"{path} cannot be read ({first_line(error)[:200]}): save it again"
        ) from None


def _array(file: Any, size: int, name: str) -> NDArray[Any]:
    """Read an array whose header was checked against its size, in bytes, before memory is taken."""
    limit = memory.total()
    if limit is not None and size > limit // 4:
        raise DataError(f"holds {size / 1e9:,.1f} GB as {name}, too much for this machine: cut it")
    version = np.lib.format.read_magic(file)
    headers: dict[tuple[int, int], Callable[[Any], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise DataError(f"holds {name} in version {version[0]}.{version[1]} of .npy: save it again")
    shape, fortran, dtype = headers[version](file)
    if dtype.hasobject:
        raise DataError(
            f"holds {name} as Python objects, which are never unpickled: save plain numbers or text"
        )
    wanted = math.prod(shape) * dtype.itemsize
    data = file.read(min(wanted, size) + 1)
    if len(data) != wanted:
        raise DataError(f"says that {name} is {shape}, but does not hold that: save it again")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _csv(file: BinaryIO, target: str, group: str) -> Examples:
    from pyarrow import csv

    options = csv.ConvertOptions(null_values=[*csv.ConvertOptions().null_values, "?"])
    return _table(csv.read_csv(file, convert_options=options), target, group)


def _parquet(file: BinaryIO, target: str, group: str) -> Examples:
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    size = sum(table.metadata.row_group(i).total_byte_size for i in range(table.num_row_groups))
    limit = memory.total()
    if limit is not None and size > limit // 4:
        raise DataError(
            f"says that it holds {size / 1e9:,.1f} GB, too much for this machine: cut it"
        )
    return _table(table.read(), target, group)


def _table(table: Any, target: str, group: str) -> Examples:
    """Turn a table of pyarrow into examples: a row each, a column for each step."""
    import pyarrow as pa

    names = list(table.column_names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"has two columns named {twice[0]!r}: rename one")
    steps = [name for name in names if name not in (target, group)]
    if not steps or not table.num_rows:
        raise DataError(f"has {table.num_rows} rows and {len(steps)} columns of values: add some")
    for name in steps:
        kind = table.schema.field(name).type
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        ):
            raise DataError(
                f"has the column {name!r} of type {kind}, not numbers: remove it, or set "
                "dataset.target if it is the class"
            )
    columns = [table[name].cast(pa.float64(), safe=False).to_numpy() for name in steps]
    named: dict[str, list[str] | None] = {target: None, group: None}
    for name in named:
        if name in names:
            values = table[name].to_pylist()
            if None in values:
                raise DataError(f"lacks {name} in row {values.index(None)}: add it")
            named[name] = as_names(np.array(values), name)
    return Examples(np.stack(columns, axis=1), named[target], named[group])


def _arff(file: BinaryIO, target: str, group: str) -> Examples:
    from scipy.io import arff

    try:
        data, meta = arff.loadarff(io.StringIO(file.read().decode("utf-8")))
    except NotImplementedError:
        raise DataError("has attributes that are no numbers: remove them") from None
    *steps, last = meta.names()
    if any(kind == "relational" for kind in meta.types()):
        raise DataError("has several dimensions (a relational attribute): use the .ts file")
    if meta[last][0] != "nominal" or any(meta[name][0] != "numeric" for name in steps):
        raise DataError("is not of numbers with the class last: reorder its attributes")
    if not steps:
        raise DataError("has no numeric attributes: add some")
    x = np.stack([np.asarray(data[name], np.float64) for name in steps], axis=1)
    return Examples(_without_ends(x), as_names(data[last], "the class"), None)


def _without_ends(x: NDArray[np.float64]) -> Data:
    """Return series (N, T), which archives fill up with missing values where they end earlier."""
    lengths = x.shape[1] - np.argmax(~np.isnan(x[:, ::-1]), axis=1)
    return Ragged.padded(x, lengths) if (lengths < x.shape[1]).any() else x


def _ucr(file: BinaryIO, target: str, group: str) -> Examples:
    """Read a line for each example, the class first, between commas, tabs or blanks."""
    rows, labels = list[NDArray[Any]](), list[float]()
    number = 0
    while raw := file.readline(_MOST_LINE):
        number += 1
        if line := raw.decode("utf-8").strip():
            label, _, values = re.sub(r"\s*[\s,]\s*", ",", line).partition(",")
            labels.append(float(_series(label, number)[0]))
            rows.append(_series(values, number))
    if not rows:
        raise DataError("holds no examples: add some")
    equal = len({len(row) for row in rows}) == 1
    x = _without_ends(np.array(rows)) if equal else Ragged.of([row[:, None] for row in rows])
    return Examples(x, as_names(np.array(labels), "the class"), None)


def _ts(file: BinaryIO, target: str, group: str) -> Examples:
    """Read the format of timeseriesclassification.com: dimensions by colons, the class last."""
    labelled, began = False, False
    rows: list[list[NDArray[Any]]] = []
    y: list[str] = []
    number = 0
    while raw := file.readline(_MOST_LINE):
        number += 1
        line = raw.decode("utf-8").strip()
        if not line or line.startswith(("#", "%")):
            continue
        if not began:
            word, *rest = line.lower().split()
            if word == "@data":
                began = True
            elif word == "@classlabel":
                labelled = rest[:1] == ["true"]
            elif word == "@targetlabel" and rest[:1] == ["true"]:
                raise DataError("has numbers as targets, and models learn classes: use another")
            elif word == "@timestamps" and rest[:1] == ["true"]:
                raise DataError("has time stamps, which are not read: resample it to equal steps")
            elif not word.startswith("@"):
                raise DataError(
                    f"has {line[:40]!r} in line {number} before @data: check its header"
                )
            continue
        *dimensions, last = line.split(":") if labelled else [*line.split(":"), ""]
        y.append(last.strip())
        rows.append([_series(text, number) for text in dimensions])
    if not rows:
        raise DataError("has no @data section with examples: check that it is whole")
    if len({len(row) for row in rows}) > 1:
        raise DataError("has examples of different numbers of dimensions: check its colons")
    for i, row in enumerate(rows):
        if len(steps := sorted({len(series) for series in row})) > 1:
            raise DataError(
                f"has an example, {i}, whose dimensions have {steps[0]} to {steps[-1]} steps: "
                "cut them to equal lengths first"
            )
    x = Ragged.of([np.stack(row, axis=1) for row in rows])
    return Examples(x, y if labelled else None, None)


def _series(text: str, number: int) -> NDArray[Any]:
    try:
        return np.array([math.nan if v.strip() == "?" else float(v) for v in text.split(",")])
    except ValueError:
        raise DataError(f"has {text[:40]!r} in line {number}, not numbers: check it") from None


_READERS: dict[str, Callable[[BinaryIO, str, str], Examples]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arff": _arff,
    ".ts": _ts,
    ".tsv": _ucr,
    ".txt": _ucr,
}
ENDINGS = tuple(_READERS)


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct names in order, numbers by their value.

    Examples
    --------
    >>> in_order(["10", "9", "-1", "9"])
    ('-1', '9', '10')
    """
    distinct = sorted(set(names))
    try:
        return tuple(sorted(distinct, key=float))
    except ValueError:
        return tuple(distinct)
