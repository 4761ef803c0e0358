"""Sweeps and searches: many runs under one parent run, launchers, and Optuna."""
