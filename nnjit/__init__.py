"""nnjit: Numba-jitted recurrent networks on long raw signals."""
