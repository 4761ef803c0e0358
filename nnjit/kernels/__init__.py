"""Jitted functions on arrays, a file per cell; shapes end in LANES (see ``_lanes``)."""
