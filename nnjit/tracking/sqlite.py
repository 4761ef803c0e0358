"""Addresses of stores in an SQLite file."""

import re
from pathlib import Path
from urllib.parse import unquote

_ADDRESS = re.compile(r"sqlite(?:\+pysqlite)?:///([^?]+)", re.DOTALL)


def sqlite_uri(path: Path) -> str:
    """Return the address of a database file, whatever its name.

    In an address ``?`` begins the options and ``%`` a code. MLflow makes a folder of what it reads
    as the path, codes and all, but only where the driver is not named.
    """
    text = str(path)
    if not {"?", "%"} & set(text):
        return f"sqlite:///{text}"
    return f"sqlite+pysqlite:///{text.replace('%', '%25').replace('?', '%3F')}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file that an address names, None where the store is something else."""
    found = _ADDRESS.match(uri)
    if found is None or found[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(found[1]))
