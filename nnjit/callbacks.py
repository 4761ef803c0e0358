"""What observes a run, by the name that programs use; see `nnjit.training.callbacks`."""

from .training.callbacks import *  # noqa: F403
