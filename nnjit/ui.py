"""``python -m nnjit.ui``; what it does is in `nnjit.commands.ui`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("ui")


if __name__ == "__main__":
    main()
