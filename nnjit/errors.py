"""Errors that a user can mend: one line that names the value, the place and the remedy."""

import reprlib
from typing import Any

_MOST = 200  # characters of a value, or of another error's message, within a message


class NnjitError(Exception):
    """Base of every error that the command line prints as one line instead of a traceback."""


class ConfigError(NnjitError):
    """A configuration value, or a combination of values, that cannot work."""


class CellError(ConfigError):
    """Equations of a recurrent cell that cannot be compiled; the message names their line."""


class DataError(NnjitError):
    """Recordings that cannot be read, cut, encoded or split as the configuration says."""


class ShapeError(NnjitError):
    """An array or a layer that does not fit what comes before it."""


class ModelFileError(NnjitError):
    """A model file that is damaged, altered or written by something else."""


class CheckpointError(NnjitError):
    """A run that cannot be resumed: its checkpoint is damaged, in use, or of another kind."""


class DivergedError(NnjitError):
    """Training produced a loss that is NaN or infinite."""


class SkippedFileWarning(UserWarning):
    """A recording is left out of a data set; the message says why."""


class TrackingError(NnjitError):
    """A store of runs that cannot be opened or written, or a run that is not in it."""


class UnrecordedError(NnjitError):
    """A run has finished training, but its record is incomplete.

    ``outcome`` is the outcome of the run.
    """

    def __init__(self, message: str, outcome: object) -> None:
        super().__init__(message)
        self.outcome = outcome


def short(value: Any) -> str:
    """Return a value from a file for a message, shortened if it is long."""
    text = value if isinstance(value, str) and value[:_MOST].isprintable() else ""
    if isinstance(value, BaseException):
        text = " ".join(str(value).split()) or type(value).__name__
    text = text or reprlib.repr(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
