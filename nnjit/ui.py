"""``python -m nnjit.ui``; see `nnjit.commands.ui`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("ui")


if __name__ == "__main__":
    main()
