"""The base class of everything that a configuration may build."""


class Part:
    """Base of all classes that a ``_target_`` of nnjit may name; it adds no attribute.

    Data sets, layers, models, trainers, optimizers, schedules and callbacks derive from it.
    """
