"""The kinds of encodings that a model file may hold, and how each reads a file for prediction."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..options import check_options
from . import array_files, audio
from .arrays import ArrayEncoding, stream_examples
from .encode import Encoding
from .inputs import InputEncoding
from .listing import find_recordings
from .strings import ENDINGS, TextEncoding, stream_texts

Read = Iterator[tuple[Any, list[str]]]  # what a model reads, a few clips at a time; their names


def _stream_recording(path: str | Path, encoding: Encoding) -> Read:
    name = Path(path).name
    for clips, offsets in audio.stream_file(path, encoding):
        yield clips, [f"{name}@{round(float(s), 4)}s" for s in offsets]


def _as_it_is(path: str | Path, encoding: InputEncoding) -> str:
    return ""


def _recordings(folder: Path) -> list[Path]:
    sources = [recording.source for recording in find_recordings(folder, 0, folder)]
    return [source for source in sources if isinstance(source, Path)]


def _ending(endings: Collection[str]) -> Callable[[Path], list[Path]]:
    def files(folder: Path) -> list[Path]:
        inside = (p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())
        return sorted(p for p in inside if not _is_hidden(p.relative_to(folder)))

    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class _Kind(NamedTuple):
    encoding: type[InputEncoding]
    stream: Callable[[str | Path, Any], Read]
    conversion: Callable[[str | Path, Any], str]
    files: Callable[[Path], list[Path]]


_KINDS = {
    "recording": _Kind(Encoding, _stream_recording, audio.conversion, _recordings),
    "array": _Kind(ArrayEncoding, stream_examples, _as_it_is, _ending(array_files.ENDINGS)),
    "text": _Kind(TextEncoding, stream_texts, _as_it_is, _ending(ENDINGS)),
}


def _kind(encoding: InputEncoding) -> str:
    (kind,) = [name for name, each in _KINDS.items() if type(encoding) is each.encoding]
    return kind


def to_plain(encoding: InputEncoding) -> dict[str, Any]:
    """Return an encoding as plain values that tell its kind; recordings, the first kind, do not."""
    kind = _kind(encoding)
    return encoding.to_dict() | ({} if kind == "recording" else {"kind": kind})


def from_plain(values: Mapping[str, Any]) -> InputEncoding:
    """Return the encoding of which `to_plain` made these values; ConfigError for others."""
    options = dict(values)
    kind = options.pop("kind", "recording")
    if kind not in _KINDS:
        raise ConfigError(f"there is no encoding of kind {kind!r}")
    check_options("encoding", _KINDS[kind].encoding, options)
    return _KINDS[kind].encoding(**options)


def conversion(path: str | Path, encoding: InputEncoding) -> str:
    """Return what a file that can be read is converted from, "" where it is taken as it is."""
    return _KINDS[_kind(encoding)].conversion(path, encoding)


def stream(path: str | Path, encoding: InputEncoding) -> Read:
    """Yield what the model reads of a file, a few clips at a time, with their names."""
    yield from _KINDS[_kind(encoding)].stream(path, encoding)


def files(folder: Path, encoding: InputEncoding) -> list[Path]:
    """Return the files below a folder that a model with such inputs may read, sorted."""
    return _KINDS[_kind(encoding)].files(folder)
