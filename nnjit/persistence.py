"""Write and read files, models above all, without ever running what is in them.

A file is a pickle of dicts, lists, strings, numbers and bytes alone; arrays are raw bytes with
dtype and shape. Reading refuses every pickle that names a class or function, so no foreign code can
run. A model file holds the architecture, the weights, the encoding and the classes; sizes are
checked before a model is built, and every dtype and shape against the architecture before a weight
is copied.
"""

import hashlib
import io
import json
import os
import pickle
import pickletools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .errors import ModelFileError, NnjitError
from .model import Sequential

MAX_BYTES = 1 << 33
_MOST_VALUES = 100_000
_WEIGHTS = ("<f4", "<f8")
_DTYPES = (*_WEIGHTS, "<i8", "|b1")
Groups = Mapping[str, Mapping[str, NDArray[Any]]]  # layer -> name -> array
# Each makes a table as large as the number beside it; the files of nnjit use MEMOIZE.
_BOMBS = ("PUT", "BINPUT", "LONG_BINPUT")


@final
@dataclass(frozen=True)
class Format:
    """A kind of file: plain values under certain keys, signed with a digest.

    Attributes
    ----------
    name : str
        What messages call it, after "nnjit".
    version : int
        Files of another one are refused.
    keys : tuple of str
        What a file holds.
    error : type
        Raised for everything that is wrong with a file.
    """

    name: str
    version: int
    keys: tuple[str, ...]
    error: type[NnjitError]

    def write(self, path: str | Path, content: dict[str, Any]) -> None:
        """Write a file; the old one stays until the new one is whole."""
        head = {"format": f"nnjit {self.name}", "version": self.version}
        document = {**head, "digest": _digest(content), **content}
        write_atomically(Path(path), pickle.dumps(document, protocol=5))

    def read(self, path: str | Path) -> dict[str, Any]:
        """Return what `write` was given.

        Raises
        ------
        NnjitError
            The format's own: where the file is missing, too large, not of this format, damaged or
            altered.
        """
        document = self._load(Path(path))
        if not isinstance(document, dict) or document.get("format") != f"nnjit {self.name}":
            raise self.error(f"{path} is not a {self.name} file of nnjit")
        if document.get("version") != self.version:
            raise self.error(
                f"{path} has format version {document.get('version')}, this nnjit reads "
                f"{self.version}: use the version that wrote it"
            )
        try:
            content = {key: document[key] for key in self.keys}
            _check_size(content)
            if document["digest"] != _digest(content):
                raise ValueError("its content does not match its digest")
        except Exception as error:
            raise self.error(f"{path} is damaged or altered: {error}") from None
        return content

    def _load(self, path: Path) -> Any:
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise _RefusedError(f"it has {size:,} bytes, more than any {self.name} of nnjit")
            content = path.read_bytes()
            for opcode, _, _ in pickletools.genops(content):
                if opcode.name in _BOMBS:
                    raise _RefusedError(f"it asks for {opcode.name}, as no file of nnjit does")
            return _PlainUnpickler(io.BytesIO(content)).load()
        except _RefusedError as error:
            raise self.error(f"{path} is refused: {error}") from None
        except OSError as error:
            raise self.error(f"cannot read {path}: {error.strerror}") from None
        except Exception as error:
            raise self.error(f"{path} is not a {self.name} file, or is damaged: {error}") from None


MODEL = Format("model", 1, ("config", "weights", "extra"), ModelFileError)


def write(path: str | Path, model: Sequential, extra: dict[str, Any]) -> None:
    """Write a model and ``extra``, plain values, to a file; the old one stays until it is whole."""
    weights = pack_groups(model.params)
    MODEL.write(path, {"config": model.config(), "weights": weights, "extra": extra})


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file such that another process sees the old content or the new, never a part."""
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
        _check_architecture(parts)
        model = Sequential.from_config(parts["config"])
        _fill(model, parts["weights"])
    except Exception as error:  # whatever the values lead to, sizes that no memory holds included
        raise ModelFileError(f"{path} is damaged or altered: {error}") from None
    return model, parts["extra"]


class _RefusedError(Exception):
    """A file that asks for more than plain values."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values; every class or function that a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise _RefusedError(f"it asks for {module}.{name}, and a file of nnjit asks for nothing")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("it refers to something outside the file")


def _check_size(parts: dict[str, Any]) -> None:
    """Refuse what would grow when it is hashed: a few bytes can hold lists of the same list."""
    pending, seen = [parts], 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ValueError("it holds more values than any file of nnjit")
        if isinstance(value, dict | list | tuple):
            pending += value.values() if isinstance(value, dict) else value


def _check_architecture(parts: dict[str, Any]) -> None:
    """Refuse an architecture that is larger than the weights in the file, before it is built."""
    held = sum(len(w["data"]) for group in parts["weights"].values() for w in group.values()) // 4
    for layer in parts["config"]["layers"]:
        if layer.get("hidden_size", 0) ** 2 > held or layer.get("units", 0) > held:
            raise ModelFileError("its architecture is larger than its weights")


def pack(value: NDArray[Any]) -> dict[str, Any]:
    """Return an array of numbers or truth values as plain values."""
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": list(value.shape), "data": little.tobytes()}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Return a new array from `pack`; ValueError where dtype, shape and data do not agree."""
    if packed["dtype"] not in _DTYPES:
        raise ValueError(f"an array is of {packed['dtype']}")
    return np.frombuffer(packed["data"], packed["dtype"]).reshape(packed["shape"]).copy()


def pack_groups(groups: Groups) -> dict[str, Any]:
    """Return arrays by layer and name as plain values."""
    return {key: {name: pack(w) for name, w in group.items()} for key, group in groups.items()}


def unpack_groups(packed: dict[str, Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return new arrays from `pack_groups`; ValueError where one is not sound."""
    return {key: {name: unpack(w) for name, w in group.items()} for key, group in packed.items()}


def _fill(model: Sequential, weights: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Copy packed weights into a model that was built from the same configuration."""
    expected = {layer: sorted(group) for layer, group in model.params.items()}
    if {layer: sorted(group) for layer, group in weights.items()} != expected:
        raise ModelFileError(f"its weights are not those of the layers {', '.join(expected)}")
    for layer, group in model.params.items():
        for name, target in group.items():
            packed = weights[layer][name]
            known = packed["dtype"] in _WEIGHTS and packed["dtype"] == target.dtype.str
            if not known or tuple(packed["shape"]) != target.shape:
                raise ModelFileError(
                    f"{layer}.{name} is {packed['dtype']} {packed['shape']}, "
                    f"the architecture needs {target.dtype.str} {list(target.shape)}"
                )
            target[...] = np.frombuffer(packed["data"], packed["dtype"]).reshape(target.shape)


def weights_digest(model: Sequential) -> str:
    """Return 16 hex digits that change with any bit of any weight (SHA-256)."""
    digest = hashlib.sha256()
    for layer, group in model.params.items():
        for name, value in group.items():
            digest.update(f"{layer}.{name}{value.dtype.str}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()[:16]


def _digest(content: dict[str, Any]) -> str:
    """Hash everything, bytes included, in one canonical order."""
    digest = hashlib.sha256()

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            digest.update(value)
            return len(value)
        raise TypeError(f"a {type(value).__name__} cannot stand in a file")

    text = json.dumps(content, default=plain, sort_keys=True)
    digest.update(text.encode())
    return digest.hexdigest()
