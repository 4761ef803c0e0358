"""Sweeps and searches: many runs, one parent, launchers and Optuna."""
