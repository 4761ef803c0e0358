"""Text of users on its way to a terminal: printed as it is, whatever the terminal can show."""

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import IO

_ASCII = {"±": "+-", "…": "..."}  # of nnjit's own lines
# Control characters, those that turn the direction of text, halves of characters (odd file names).
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REPLACE = "nnjit.replace"  # a handler of errors in encoding


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Return a text without what a terminal would obey, or cannot show.

    Control characters, as in the escape sequences that colour or clear a terminal, and characters
    that ``encoding`` lacks, come back as ``\x1b`` and the like. Line breaks and tabs stay.
    """
    text = _OBEYED.sub(lambda found: _escaped(found[0]), text)
    return text.encode(encoding, _REPLACE).decode(encoding)


def markdown_text(text: str) -> str:
    """Return Markdown that reads as the text, in a line or a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&])", r"\\\1", " ".join(printable(text).split()))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose cells read as these texts."""
    first, *others = (list(map(markdown_text, cells)) for cells in (header, *rows))
    lines = [first, ["---"] * len(first), *others]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def count(n: int, what: str) -> str:
    """Return a number of things, as "1 run" or "2 runs"."""
    return f"{n} {what}" + "s" * (n != 1)


def markdown_block(text: str) -> str:
    """Return Markdown that shows the text as it is, whatever backticks it has."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable(text)}\n{fence}"


def say(line: str, file: IO[str] | None = None) -> None:
    """Print a line at once, as it is."""
    print(printable(line), file=sys.stdout if file is None else file, flush=True)


def _escaped(c: str) -> str:
    return c.encode("ascii", "backslashreplace").decode() if c > "\x7f" else f"\\x{ord(c):02x}"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or _escaped(c) for c in lacking), error.end


codecs.register_error(_REPLACE, _replace)


def open_streams() -> None:
    """Make standard output and error ready: open, and able to take any text.

    What a shell has closed (``>&-``) leads nowhere from now on. Left closed, its number would go to
    the next file that is opened, a database perhaps, and what libraries print would go there too.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is this one
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors=_REPLACE))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors=_REPLACE)
