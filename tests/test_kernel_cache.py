"""The folder of compiled kernels: which one is taken, and what a damaged file in it does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nnjit.kernels import _jit

MODULE = """
from nnjit.kernels._jit import jit

@jit
def double(x):
    return x + x

if __name__ == "__main__":
    assert double(2.5) == 5.0
    assert double(2) == 4
    print(sum(double.stats.cache_hits.values()), sum(double.stats.cache_misses.values()))
"""
POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes of POSIX")


def call(folder, **more):
    """Call the kernel in a fresh process; return how often it was found and how often compiled."""
    (folder / "doubled.py").write_text(MODULE, encoding="utf-8")
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), **more}
    env = {key: value for key, value in env.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-Werror", "doubled.py"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(map(int, done.stdout.split()))


def files(folder, pattern):
    return sorted((folder / "cache").rglob(pattern))


def test_a_second_process_compiles_nothing(tmp_path):
    assert call(tmp_path) == (0, 2)
    assert call(tmp_path) == (2, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[: len(b) // 2],
        lambda b: b"x" * 99,
        lambda b: b[:-40] + bytes([b[-40] ^ 1]) + b[-39:],
        lambda b: b"\x80\x04K\x01.",
    ],
)
@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_a_damaged_file_is_compiled_again(pattern, damage, tmp_path):
    call(tmp_path)
    for path in files(tmp_path, pattern):
        path.write_bytes(damage(path.read_bytes()))
    _, compiled = call(tmp_path)
    assert compiled >= 1
    assert call(tmp_path) == (2, 0)


def test_a_flipped_bit_in_machine_code_is_seen(tmp_path):
    call(tmp_path)
    for path in files(tmp_path, "*.nbc"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert call(tmp_path) == (0, 2)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    call(tmp_path)
    (index,) = files(tmp_path, "*.nbi")
    index.unlink()
    index.mkdir()
    assert call(tmp_path) == (0, 2)


def test_code_that_is_compiled_at_the_same_time_has_files_of_its_own(tmp_path):
    entries = [_jit._Entries(str(tmp_path), "kernel", "stamp") for _ in range(2)]
    for entry in entries:  # as two processes that both saw an empty index
        entry._load_index = dict
    for key, entry in enumerate(entries):
        entry.save(key, f"code {key}")
    fresh = _jit._Entries(str(tmp_path), "kernel", "stamp")
    assert fresh.load(0) in (None, "code 0")
    assert fresh.load(1) in (None, "code 1")


@POSIX
def test_a_full_or_closed_folder_costs_time_only(tmp_path, monkeypatch):
    full = _jit._KernelCache(test_a_folder_in_the_place_of_a_file, tmp_path)

    def no_space(*rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_jit.caching.FunctionCache, "save_overload", no_space)
    full.save_overload(None, None)


def _places(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_no_home_uses_the_temporary_folder(tmp_path, monkeypatch):
    _places(monkeypatch, tmp_path)
    assert _jit.cache_folder().is_relative_to(tmp_path / "home")

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert _jit.cache_folder().is_relative_to(tmp_path / "tmp")


@POSIX
def test_code_that_others_could_have_written_is_not_run(tmp_path, monkeypatch):
    _places(monkeypatch, tmp_path)
    monkeypatch.setenv("HOME", "/dev/null")
    folder = _jit.cache_folder()
    base = folder.parent
    assert base.parent == tmp_path / "tmp"
    assert folder.stat().st_mode & 0o777 == base.stat().st_mode & 0o777 == 0o700
    for place in (base, folder):
        for mode in (0o777, 0o770):
            place.chmod(mode)
            assert _jit.cache_folder() is None
        place.chmod(0o700)
    assert _jit.cache_folder() == folder
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        (tmp_path / "tmp" / f"nnjit-{os.getuid()}").mkdir(mode=0o700)
        assert _jit.cache_folder() is None  # made beforehand by somebody else
    base.rename(tmp_path / "elsewhere")
    base.symlink_to(tmp_path / "elsewhere")
    assert _jit.cache_folder() is None


@POSIX
def test_a_folder_that_the_user_names_may_be_of_a_group(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "shared"))
    folder = _jit.cache_folder()
    folder.chmod(0o775)
    assert _jit.cache_folder() == folder
    folder.chmod(0o777)
    assert _jit.cache_folder() != folder


def test_without_any_folder_kernels_are_compiled(tmp_path):
    nowhere = {"NUMBA_CACHE_DIR": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "TMPDIR": None}
    code = MODULE.replace(
        "from nnjit", "import tempfile; tempfile.tempdir = '/dev/null'\nfrom nnjit", 1
    )
    (tmp_path / "doubled.py").write_text(code, encoding="utf-8")
    env = {k: v for k, v in {**os.environ, **nowhere}.items() if v is not None}
    done = subprocess.run(
        [sys.executable, "doubled.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["0", "2"], done.stderr
