"""``python -m nnjit.reproduce``; see `nnjit.commands.reproduce`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("reproduce")


if __name__ == "__main__":
    main()
