"""Names of folders and classes that YAML or Hydra parses as numbers or truth values."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigError
from ..runtime.places import given_path

Name = str | bool | int | float  # 2024, true and 1e3 are names too


def as_typed(key: str, value: Name, known: Iterable[str]) -> str:
    """Return the name that the user typed, given the value that YAML or Hydra parsed.

    Parameters
    ----------
    key : str
        The option, for messages.
    value : str, bool, int or float
        The parsed value.
    known : iterable of str
        Names that exist. The result is the one that is parsed as `value`: "1e3" for 1000.0.

    Raises
    ------
    ConfigError
        If several names are parsed as `value`.

    Examples
    --------
    >>> as_typed("dataset.true", 1000.0, ["1e3", "2e3"])
    '1e3'
    """
    if isinstance(value, str):
        return value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    same = [name for name in known if _reads_as(name, value)]
    if text in same or not same:
        return text
    if len(same) > 1:
        raise ConfigError(
            f"{key}={text} may be {' or '.join(same)}: quote the name, as in '{key}=\"{same[0]}\"'"
        )
    return same[0]


def root_folder(value: Path | Name, within: str = ".") -> Path:
    """Return the folder that ``dataset.root`` names; a relative path is below ``within``."""
    if isinstance(value, Path | str):
        return given_path(value)
    return Path(as_typed("dataset.root", value, os.listdir(within)))


def _reads_as(name: str, value: bool | int | float) -> bool:
    if isinstance(value, bool):
        return name.lower() == str(value).lower()
    for kind in (int, float):
        try:
            number = kind(name)
        except ValueError:
            continue
        return type(value) is kind and number == value
    return False
