"""How everything here is timed."""

import time
from collections.abc import Callable


def seconds(call: Callable[[], None], budget: float, most: int) -> list[float]:
    """Seconds of each of several calls, after one that may compile; as many as the budget takes."""
    call()
    taken: list[float] = []
    began = time.perf_counter()
    while not taken or (time.perf_counter() - began < budget and len(taken) < most):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return taken
