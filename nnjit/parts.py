"""What a configuration may build."""


class Part:
    """Base of all classes that a ``_target_`` of nnjit may name; it has nothing of its own.

    Data sets, layers, models, trainers, optimizers, schedules and callbacks derive from it.
    """
