"""The kernels as plain Python, and compiled with bounds checked, each in a process of its own.

Compiled kernels read out of bounds without a word; in both of these modes they raise IndexError.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = ["test_cells.py", "test_layers.py", "test_optimizers.py"]
SHORT = "not 130 and not 300 and not two_layers and not leave"  # the others take long, uncompiled
GRADIENTS = "(equal_torch or one_hot or adds_in_place) and not float32 and not 1-1-1"


def run(tmp_path, select, **environment):
    """Run tests with such settings of Numba; return whether they compiled anything."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", select, *FILES]
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run(
        command, cwd=TESTS, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return any(tmp_path.rglob("*.nbi"))


def test_every_kernel_interpreted(tmp_path):
    compiled = run(tmp_path, f"{GRADIENTS} and {SHORT}", NUMBA_DISABLE_JIT="1")
    assert not compiled


@pytest.mark.slow
def test_short_tests_interpreted(tmp_path):
    assert not run(tmp_path, SHORT, NUMBA_DISABLE_JIT="1")


@pytest.mark.slow
def test_bounds(tmp_path):
    assert run(tmp_path, f"{SHORT} and not float32", NUMBA_BOUNDSCHECK="1")
