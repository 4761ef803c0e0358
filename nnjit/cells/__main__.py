"""``python -m nnjit.cells``; what it does is in `nnjit.commands.cells`."""

from ..commands import execute

if __name__ == "__main__":
    execute("cells")
