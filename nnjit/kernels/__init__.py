"""Jitted functions on arrays whose shapes end in LANES (see ``_lanes``)."""
