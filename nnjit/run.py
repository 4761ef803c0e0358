"""``python -m nnjit.run``; see `nnjit.commands.run`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("run")


if __name__ == "__main__":
    main()
