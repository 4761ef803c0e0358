"""Prints errors and warnings as one line, and sets exit codes."""

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import NnjitError
from ..runtime import signals
from ..runtime.secrets import without_passwords
from ..runtime.text import open_streams, say

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EDQUOT)
_TOO_LARGE = ("Maximum allowed dimension exceeded", "array is too big")  # NumPy's ValueErrors
WARNING = "nnjit: warning: "
_INTERRUPTED = 130  # 128 + SIGINT, the convention of shells


@contextlib.contextmanager
def one_line_errors(last: bool = False) -> Iterator[None]:
    """Turn errors that a user can fix into one line on stderr and exit code 1.

    Bugs keep their traceback. SIGTERM and the end of the terminal act like Ctrl-C, so that a run
    can close its record. ``last`` is as in `signals.heard`.
    """
    open_streams()
    with signals.heard(last):
        try:
            yield
            sys.stdout.flush()  # before `heard` ends: a signal after that ends the process at once
            signals.check()
        except KeyboardInterrupt:
            _exit("interrupted", _INTERRUPTED)
        except BrokenPipeError:  # the reader has closed the pipe, as in ... | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except Exception as error:
            if signals.came():  # a library may turn an interrupt into another error
                _exit("interrupted", _INTERRUPTED)
            message = explain(error)
            if message is None:
                raise
            _exit(message)


def _exit(message: str, code: int = 1) -> None:
    with contextlib.suppress(OSError):  # the terminal may have gone
        say(f"nnjit: {without_passwords(' '.join(message.split()))}", sys.stderr)
    raise SystemExit(code) from None


def explain(error: BaseException) -> str | None:
    """Return one line for an error that a user can fix; None for a bug."""
    if isinstance(error.__cause__, NnjitError):  # Hydra wraps what its plugins raise
        error = error.__cause__
    if isinstance(error, NnjitError):
        return " ".join(str(error).split())
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "disk is full" in str(error) or "No space left" in str(error):
        return "the disk is full: free some space, or start in a folder on another disk"
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename:
        return f"cannot write {error.filename} ({error.strerror}): start in another folder"
    if isinstance(error, MemoryError) or str(error).startswith(_TOO_LARGE):
        return (
            f"there is not enough memory ({str(error) or 'no more was given'}): lower the sizes of "
            "layers, trainer.batch_size, dataset.n_clips, duration or rate"
        )
    from ..config import overrides  # imports Hydra, which most commands do not need

    return overrides.explain(error, sys.argv[1:])


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print warnings as one line on stderr, without the source line that raised them."""

    def show(message: Any, category: type[Warning], *args: Any, **options: Any) -> None:
        name = "" if category is UserWarning else f" ({category.__name__})"
        say(f"{WARNING}{' '.join(str(message).split())}{name}", sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
