"""``python -m nnjit.compare``; see `nnjit.commands.compare`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("compare")


if __name__ == "__main__":
    main()
