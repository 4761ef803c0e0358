"""nnjit against PyTorch and JAX, side by side in one run."""
