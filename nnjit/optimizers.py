"""Optimizers, by the name that programs use; see `nnjit.training.optimizers`."""

from .training.optimizers import *  # noqa: F403
