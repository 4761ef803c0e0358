"""One training run: the loop, its parts, and what observes it."""
