"""Folders as people name them, and processes that have no home."""

import atexit
import contextlib
import getpass
import os
import shutil
import tempfile
from pathlib import Path


def given_path(text: str | Path) -> Path:
    """Return a path that a person has written: ``~`` is the home, where there is one."""
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def have_home() -> None:
    """Give a process whose user is not known to the system an empty home, and a name.

    MLflow asks for the home while it is imported, and for the name in every run.
    """
    try:
        Path.home()
    except RuntimeError:
        variable = "USERPROFILE" if os.name == "nt" else "HOME"
        os.environ[variable] = home = tempfile.mkdtemp(prefix="nnjit-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    try:
        getpass.getuser()
    except (KeyError, ImportError, OSError):  # which one depends on the version of Python
        os.environ["LOGNAME"] = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
