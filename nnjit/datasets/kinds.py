"""The kinds of encodings that a model file may hold, and how each reads a file for prediction."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..options import check_options
from .arrays import ArrayEncoding, stream_examples
from .audio import stream_file
from .encode import Encoding
from .inputs import InputEncoding
from .strings import TextEncoding, stream_texts

_KINDS: dict[str, type[InputEncoding]] = {
    "recording": Encoding,
    "array": ArrayEncoding,
    "text": TextEncoding,
}


def to_plain(encoding: InputEncoding) -> dict[str, Any]:
    """Return an encoding as plain values that tell its kind; recordings, the first kind, do not."""
    (kind,) = [name for name, each in _KINDS.items() if type(encoding) is each]
    return encoding.to_dict() | ({} if kind == "recording" else {"kind": kind})


def from_plain(values: Mapping[str, Any]) -> InputEncoding:
    """Return the encoding of which `to_plain` made these values; ConfigError for others."""
    options = dict(values)
    kind = options.pop("kind", "recording")
    if kind not in _KINDS:
        raise ConfigError(f"there is no encoding of kind {kind!r}")
    check_options("encoding", _KINDS[kind], options)
    return _KINDS[kind](**options)


def stream(path: str | Path, encoding: InputEncoding) -> Iterator[tuple[Any, list[str]]]:
    """Yield what the model reads of a file, a few clips at a time, with their names."""
    if isinstance(encoding, ArrayEncoding):
        yield from stream_examples(path, encoding)
    elif isinstance(encoding, TextEncoding):
        yield from stream_texts(path, encoding)
    elif isinstance(encoding, Encoding):
        name = Path(path).name
        for codes, offsets in stream_file(path, encoding):
            yield codes, [f"{name}@{round(float(s), 4)}s" for s in offsets]
