"""Paths as users write them, and a home folder for processes that have none."""

import atexit
import contextlib
import getpass
import os
import shutil
import tempfile
from pathlib import Path


def given_path(text: str | Path) -> Path:
    """Return a path that a user has written: ``~`` is the home folder, if there is one."""
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def have_home() -> None:
    """Set a home folder (empty) and a user name where the system knows none.

    MLflow asks for the home folder when it is imported, and for the name in every run.
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
