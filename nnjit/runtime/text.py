"""Makes text safe to print: without control characters, and in any encoding of the terminal."""

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import IO

_ASCII = {"±": "+-", "…": "..."}  # characters that nnjit prints
# Control characters, direction overrides, and surrogates (bytes of undecodable file names).
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REPLACE = "nnjit.replace"  # the name of a codec error handler


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Return a text without control characters and without characters that ``encoding`` lacks.

    They become ``\x1b`` and the like, so that no escape sequence colours or clears the terminal.
    Line breaks and tabs stay.
    """
    text = _UNSAFE.sub(lambda match: _escaped(match[0]), text)
    return text.encode(encoding, _REPLACE).decode(encoding)


def markdown_text(text: str) -> str:
    """Return a text with Markdown's special characters escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&])", r"\\\1", " ".join(printable(text).split()))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with these texts, escaped, in its cells."""
    first, *others = (list(map(markdown_text, cells)) for cells in (header, *rows))
    lines = [first, ["---"] * len(first), *others]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def count(n: int, noun: str) -> str:
    """Return a number with its noun, as "1 run" or "2 runs"."""
    return f"{n} {noun}" + "s" * (n != 1)


def markdown_block(text: str) -> str:
    """Return a Markdown code block with the text; the fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable(text)}\n{fence}"


def say(line: str, file: IO[str] | None = None) -> None:
    """Print a line and flush."""
    print(printable(line), file=sys.stdout if file is None else file, flush=True)


def _escaped(c: str) -> str:
    return c.encode("ascii", "backslashreplace").decode() if c > "\x7f" else f"\\x{ord(c):02x}"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return a replacement for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or _escaped(c) for c in lacking), error.end


codecs.register_error(_REPLACE, _replace)


def open_streams() -> None:
    """Open the standard streams if they are closed, and let them encode any text.

    A stream that the shell closed (``>&-``) is opened on the null device. Left closed, its file
    descriptor would go to the next file that is opened, perhaps a database, and libraries would
    print into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed, so the lowest free descriptor is this one
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors=_REPLACE))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors=_REPLACE)
