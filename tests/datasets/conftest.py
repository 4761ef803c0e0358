from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write(tmp_path):
    """Write noise or a given signal below tmp_path and return the path."""

    def write(name, signal=None, seconds=3.0, rate=8000, **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if signal is None:
            noise = np.random.default_rng(list(name.encode()))
            signal = noise.uniform(-0.5, 0.5, round(seconds * rate))
        soundfile.write(path, signal, rate, **options)
        return path

    return write


@pytest.fixture
def two_authors(write, tmp_path):
    """Return a root with classes a and b, three recordings of three seconds each."""
    for author in "ab":
        for track in range(3):
            write(f"root/{author}/{track}.wav")
    return tmp_path / "root"
