"""Augmentations, by the name that programs use; see `nnjit.training.augmentation`."""

from .training.augmentation import *  # noqa: F403
