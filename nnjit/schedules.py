"""Learning rates over the epochs, by the name that programs use; see `nnjit.training.schedules`."""

from .training.schedules import *  # noqa: F403
