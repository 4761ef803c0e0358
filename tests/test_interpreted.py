"""The kernels as plain Python, and compiled with bounds checked, each in a process of its own.

Compiled kernels read out of bounds without a word; in both of these modes they raise IndexError.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = ["test_cells.py", "test_layers.py", "test_step_layers.py", "test_optimizers.py"]
DRAWN = "test_cell_compiler.py"
SHORT = "not slow and not compiled"


def run(tmp_path, marked, *files, **environment):
    """Run tests with such settings of Numba; tell whether any was compiled, and the report."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked, *files]
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run(
        command, cwd=TESTS, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return any(tmp_path.rglob("*.nbi")), done.stdout


def test_every_kernel_interpreted(tmp_path):
    compiled, told = run(tmp_path, f"interpreted and {SHORT}", *FILES, DRAWN, NUMBA_DISABLE_JIT="1")
    assert not compiled
    assert "skipped" not in told


@pytest.mark.slow
def test_short_tests_interpreted(tmp_path):
    compiled, _ = run(tmp_path, SHORT, *FILES, NUMBA_DISABLE_JIT="1")
    assert not compiled


@pytest.mark.slow
def test_bounds(tmp_path):
    compiled, _ = run(tmp_path, f"{SHORT} and not float32", *FILES, NUMBA_BOUNDSCHECK="1")
    assert compiled
