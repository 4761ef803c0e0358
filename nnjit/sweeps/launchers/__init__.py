"""Launchers: they run the jobs of a sweep in processes, on Slurm or on Ray."""
