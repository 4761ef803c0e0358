"""The environment of a run, as tags: versions, source commit, processor, threads."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from .. import __version__
from .threads import get_threads

_PACKAGES = ("numpy", "numba", "soundfile", "soxr", "hydra-core", "mlflow")


def environment() -> dict[str, str]:
    """Return what a result may depend on besides its configuration, as tags of a run."""
    tags = {f"version.{name}": version(name) for name in _PACKAGES}
    tags |= {"version.python": platform.python_version(), "version.nnjit": __version__}
    tags |= {"cpu": _cpu(), "cores": str(os.cpu_count()), "threads": str(get_threads())}
    tags |= {"platform": platform.platform()}
    if commit := _git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str:
    """Return the commit of nnjit's source if it is a checkout, with + if files were changed."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return ""
    git = ["git", "-C", str(source)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
