"""What not every system has: names of POSIX, encodings other than UTF-8, characters in names."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnjit
from nnjit.config.build import CONF

PACKAGE = Path(nnjit.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# As on Windows: gone before anything of nnjit is imported.
WITHOUT = """
import importlib, os, pkgutil, signal, sys

import filelock, hydra, matplotlib, mlflow, numba, numpy, soundfile  # they look after themselves

for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGQUIT", "pthread_sigmask", "alarm", "setitimer"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("getuid", "geteuid", "killpg", "getpgid", "setsid", "fork", "fchmod", "statvfs",
             "sched_getaffinity", "register_at_fork", "sysconf", "O_NOFOLLOW", "O_DIRECTORY",
             "O_CLOEXEC", "mkfifo", "WNOHANG"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # an import fails

import nnjit
for module in pkgutil.walk_packages(nnjit.__path__, "nnjit."):
    if not module.name.endswith(("data.guitar.cut", "pyfunc")):
        importlib.import_module(module.name)

from nnjit.kernels import _jit
from nnjit.reporting.messages import one_line_errors
from nnjit.runtime import memory, threads
from nnjit.runtime.places import given_path

assert _jit.cache_folder() is not None
assert threads.available_cores() >= 1
assert memory.total() is None
given_path("~/x")
with one_line_errors():
    pass
print("all")
"""


def test_names_of_posix_are_not_needed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines()[-1:] == ["all"], done.stderr


NAMES = (
    "SIGHUP SIGKILL SIGQUIT SIGUSR1 killpg getpgid setsid getuid geteuid fork fchmod statvfs "
    "register_at_fork sched_getaffinity sysconf preexec_fn mkfifo pthread_sigmask"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_of_posix_have_a_guard(path):
    """A use needs a question beside it: ``hasattr``, ``getattr``, ``os.name`` or an exception."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    guard = re.compile(r"hasattr|getattr|os\.name|sys\.platform|AttributeError")
    scopes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in NAMES.split():
            near = [s for s in scopes if s.lineno <= node.lineno <= (s.end_lineno or 0)]
            inner = min(near, key=lambda s: (s.end_lineno or 0) - s.lineno, default=tree)
            assert guard.search(ast.get_source_segment(text, inner) if near else text), (
                f"{path.name}:{node.lineno} uses {node.attr} without a guard"
            )


TEXT = ("open", "read_text", "write_text", "fdopen", "TextIOWrapper")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_text_file_has_an_encoding(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        owner = ast.unparse(node.func)
        name = owner.rpartition(".")[2]
        keywords = {k.arg for k in node.keywords}
        modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
        modes += [
            k.value.value
            for k in node.keywords
            if k.arg == "mode" and isinstance(k.value, ast.Constant)
        ]
        binary = any(isinstance(m, str) and "b" in m for m in modes)
        is_text = name in TEXT and not binary
        if name in ("open", "fdopen"):  # others have a method of that name
            writes = any(isinstance(m, str) and re.fullmatch("[rwax]t?[+]?", m) for m in modes)
            is_text = writes or (owner == "open" and not binary)
            is_text &= not owner.startswith(("tarfile", "os.open"))
        if name in ("run", "Popen") and "text" in keywords:
            is_text = True
        assert not is_text or "encoding" in keywords, f"{path.name}:{node.lineno} {owner}"


def test_folders_of_runs_have_names_for_every_system():
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    patterns = re.findall(r"\$\{now:([^}]*)\}", text)
    assert patterns
    assert not set("".join(patterns)) & set('<>:"/\\|?*')
