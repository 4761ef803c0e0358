import signal

import numpy as np
import pytest

from nnjit.runtime import threads

# Where the suite runs in the background of a script, Ctrl-C is ignored; its tests need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def set_threads():
    """Change the number of threads for one test."""
    yield threads.set_threads
    threads.set_threads()
