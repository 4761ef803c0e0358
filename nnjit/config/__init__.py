"""Turns a composed configuration into objects, after checks of what it may build."""
