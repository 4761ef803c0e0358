"""Metrics, by the name that programs use; see `nnjit.training.metrics`."""

from .training.metrics import *  # noqa: F403
