"""Addresses of stores in SQLite files."""

import re
from pathlib import Path
from urllib.parse import unquote

_ADDRESS = re.compile(r"sqlite(?:\+pysqlite)?:///([^?]+)", re.DOTALL)


def sqlite_uri(path: Path) -> str:
    """Return the address of a database file, with special characters in its name escaped.

    In an address ``?`` begins the options and ``%`` an escape. Such an address names the driver:
    without it, MLflow would create a folder with the escaped name.
    """
    text = str(path)
    if not {"?", "%"} & set(text):
        return f"sqlite:///{text}"
    return f"sqlite+pysqlite:///{text.replace('%', '%25').replace('?', '%3F')}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an address, None for a store without a file."""
    match = _ADDRESS.match(uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1]))
