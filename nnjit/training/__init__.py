"""One training run: the loop, its settings, and the callbacks that observe it."""
