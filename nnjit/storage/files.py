"""Writes and reads model files and other files of plain values, without running code from them.

A file is a pickle of dicts, lists, strings, numbers and bytes only; arrays are raw bytes with
dtype and shape. Reading refuses every pickle that asks for anything else, such as a class or a
function, so no foreign code can run. A model file holds the architecture, the weights, the encoding
and the classes.

Reading checks before it takes memory. First every opcode is checked, then every value: its type,
and the number, length and depth of values. Then the shapes that follow from the architecture are
compared with the arrays in the file. Only then is memory taken for the model: less than four times
the size of the file and 64 MB in all.
"""

import hashlib
import io
import json
import math
import os
import pickle
import pickletools
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelFileError, NnjitError, short
from ..model import Sequential
from ..options import expect, fits

MAX_BYTES = 1 << 33
_MOST_VALUES = 100_000
_MOST_OPCODES = 4 * _MOST_VALUES
_MOST_TEXT = 4_000_000  # characters in all
_MOST_DEPTH = 32
_MOST_BITS = 160  # of a whole number; the state of a random stream has 128
_DTYPES = ("<f4", "<f8", "<i8", "|b1")
Groups = Mapping[str, Mapping[str, NDArray[Any]]]  # layer -> name -> array
# The opcodes for plain values in the protocol that `write` uses. Others make more than plain values
# or exhaust memory and time: PUT makes a table as large as its argument, nested tuples as keys are
# hashed again and again.
_OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
)


@final
@dataclass(frozen=True)
class Format:
    """A kind of file: plain values under certain keys, signed with a digest.

    Attributes
    ----------
    name : str
        The kind of file, for messages: "model", "checkpoint".
    version : int
        Files of another version are refused.
    keys : tuple of str
        The keys that every file holds.
    error : type
        Raised for every fault of a file.
    """

    name: str
    version: int
    keys: tuple[str, ...]
    error: type[NnjitError]

    def write(self, path: str | Path, content: dict[str, Any]) -> None:
        """Write a file; an old one is replaced only when the new one is complete.

        Raises
        ------
        NnjitError
            The format's ``error``: a value is not plain, so that it could not be read back.
        """
        try:
            _check_plain(content)
        except _RefusedError as error:
            raise self.error(f"cannot write {path}: {error}") from None
        head = {"format": f"nnjit {self.name}", "version": self.version}
        document = {**head, "digest": _digest(content), **content}
        write_atomically(Path(path), pickle.dumps(document, protocol=5))

    def read(self, path: str | Path) -> dict[str, Any]:
        """Return what `write` was given.

        Raises
        ------
        NnjitError
            The format's ``error``: the file is missing, too large, not of this format, damaged or
            altered.
        """
        document = self._load(Path(path))
        if not isinstance(document, dict) or document.get("format") != f"nnjit {self.name}":
            raise self.error(f"{path} is not a {self.name} file of nnjit")
        if document.get("version") != self.version:
            raise self.error(
                f"{path} has format version {short(document.get('version'))}, this nnjit reads "
                f"{self.version}: use the version that wrote it"
            )
        for key in (*self.keys, "digest"):
            if key not in document:
                raise self.error(f"{path} is damaged or altered: it has no {key}")
        content = {key: document[key] for key in self.keys}
        if document["digest"] != _digest(content):
            raise self.error(f"{path} is damaged or altered: its content does not match its digest")
        return content

    def _load(self, path: Path) -> Any:
        """Return the plain values in a file."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) and not path.is_dir():
                raise _RefusedError("it is no regular file")
            if status.st_size > MAX_BYTES:
                raise _RefusedError(
                    f"it has {status.st_size:,} bytes, more than any {self.name} of nnjit"
                )
            content = path.read_bytes()
            if content[:2] != b"\x80\x05":
                raise ValueError("it does not begin as one")
            _check_opcodes(content)
            document = _PlainUnpickler(io.BytesIO(content)).load()
            _check_plain(document, len(content))
            return document
        except _RefusedError as error:
            raise self.error(f"{path} is refused: {error}") from None
        except OSError as error:
            raise self.error(f"cannot read {path}: {error.strerror}") from None
        except Exception as error:
            raise self.error(
                f"{path} is not a {self.name} file, or is damaged: {short(error)}"
            ) from None


MODEL = Format("model", 1, ("config", "weights", "extra"), ModelFileError)


def write(path: str | Path, model: Sequential, extra: dict[str, Any]) -> None:
    """Write a model and ``extra``, plain values, to a file, atomically."""
    weights = pack_groups(model.params)
    MODEL.write(path, {"config": model.config(), "weights": weights, "extra": extra})


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that another process sees either the old content or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: str | Path) -> tuple[Sequential, dict[str, Any]]:
    """Return the model of a file and its ``extra``.

    Raises
    ------
    ModelFileError
        Where the file is missing, too large, not written by nnjit, damaged or altered.
    """
    parts = MODEL.read(path)
    try:
        model = Sequential.from_config(parts["config"], unpack_groups(parts["weights"]))
        if not isinstance(parts["extra"], dict):
            raise ModelFileError(f"the extra of the model is {short(parts['extra'])}")
    except Exception as error:  # altered values can cause any error
        raise ModelFileError(f"{path} is damaged or altered: {short(error)}") from None
    return model, parts["extra"]


class _RefusedError(Exception):
    """A file that asks for more than plain values."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values; refuses every class or function that a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        raise _RefusedError(f"it asks for {module}.{name}, as no file of nnjit does")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("it refers to something outside the file")


def _check_opcodes(content: bytes) -> None:
    """Refuse a pickle, before it is read, that asks for more than plain values or for too many."""
    for n, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _OPCODES:
            name = f" {short(argument)}" if isinstance(argument, str) else ""
            raise _RefusedError(f"it asks for {opcode.name}{name}, as no file of nnjit does")
        if n > _MOST_OPCODES:
            raise _RefusedError("it holds more values than any file of nnjit")


def _check_plain(document: Any, size: int = MAX_BYTES) -> None:
    """Refuse values that are not plain, or that are larger than their file.

    A few bytes can encode lists of the same list; so a value counts each time that it occurs.

    Parameters
    ----------
    document
        The values.
    size
        The most bytes that arrays may take.
    """
    pending, n_values, n_text, n_bytes = [(document, 0)], 0, 0, 0
    while pending:
        value, depth = pending.pop()
        kind, n_values = type(value), n_values + 1
        if kind is dict:
            if any(type(key) is not str for key in value):
                raise _RefusedError("it has keys that are no text")
            n_text += sum(map(len, value))
            pending += [(entry, depth + 1) for entry in value.values()]
        elif kind is list:
            pending += [(entry, depth + 1) for entry in value]
        elif kind is bytes:
            n_bytes += len(value)
        elif kind is str:
            n_text += len(value)
        elif kind is int and value.bit_length() > _MOST_BITS:
            raise _RefusedError(f"it has a whole number of {value.bit_length()} bits")
        elif kind not in (int, float, bool, type(None)):
            raise _RefusedError(f"it holds a {kind.__name__}")
        if n_values + len(pending) > _MOST_VALUES:
            raise _RefusedError("it holds more values than any file of nnjit")
        if n_text > _MOST_TEXT or n_bytes > size or depth > _MOST_DEPTH:
            raise _RefusedError("it holds longer or deeper values than any file of nnjit")


def pack(value: NDArray[Any]) -> dict[str, Any]:
    """Return an array of numbers or truth values as plain values."""
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": list(value.shape), "data": little.tobytes()}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Return a new array from `pack`; ConfigError where dtype, shape and data do not agree."""
    expect("an array", packed, dtype=str, shape=list[int], data=bytes)
    dtype, shape, data = packed["dtype"], packed["shape"], packed["data"]
    if dtype not in _DTYPES or len(shape) > 4 or min(shape, default=0) < 0:
        raise ConfigError(f"an array is of {short(dtype)} and the shape {short(shape)}")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ConfigError(f"an array {dtype} {short(shape)} has {len(data)} bytes")
    if dtype == "|b1" and max(data, default=0) > 1:
        raise ConfigError("an array of truth values has other values")
    return np.frombuffer(data, dtype).reshape(shape).copy() if data else np.empty(shape, dtype)


def pack_groups(groups: Groups) -> dict[str, Any]:
    """Return arrays by layer and name as plain values."""
    return {key: {name: pack(w) for name, w in group.items()} for key, group in groups.items()}


def unpack_groups(packed: dict[str, Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return new arrays from `pack_groups`; ConfigError where one is not valid."""
    if not fits(packed, dict[str, dict[str, Any]]):
        raise ConfigError(f"arrays by layer and name are {short(packed)}")
    return {key: {name: unpack(w) for name, w in group.items()} for key, group in packed.items()}


def weights_digest(model: Sequential) -> str:
    """Return 16 hex digits that change with any bit of any weight (SHA-256)."""
    digest = hashlib.sha256()
    for layer, group in model.params.items():
        for name, value in group.items():
            digest.update(f"{layer}.{name}{value.dtype.str}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()[:16]


def _digest(content: dict[str, Any]) -> str:
    """Return a hash of all values, bytes included, that does not depend on the order of keys."""
    digest = hashlib.sha256()

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            digest.update(value)
            return len(value)
        raise TypeError(f"a {type(value).__name__} cannot be in a file")

    text = json.dumps(content, default=plain, sort_keys=True)
    digest.update(text.encode())
    return digest.hexdigest()
