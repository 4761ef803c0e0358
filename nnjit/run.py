"""``python -m nnjit.run``; what it does is in `nnjit.commands.run`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("run")


if __name__ == "__main__":
    main()
