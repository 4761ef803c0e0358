import signal

import numpy as np
import pytest

from nnjit.runtime import threads

# In the background of a script Ctrl-C is ignored, and after nohup the end of the terminal: tests
# need both.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def set_threads():
    """Change the number of threads for one test."""
    yield threads.set_threads
    threads.set_threads()
