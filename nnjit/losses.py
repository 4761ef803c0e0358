"""Losses, by the name that programs use; see `nnjit.training.losses`."""

from .training.losses import *  # noqa: F403
