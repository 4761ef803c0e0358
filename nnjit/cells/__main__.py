"""Runs ``python -m nnjit.cells``; see `nnjit.commands.cells`."""

from ..commands import execute

if __name__ == "__main__":
    execute("cells")
