"""``python -m nnjit.predict``; see `nnjit.commands.predict`."""

from .commands import execute


def main() -> None:
    """Run the command line."""
    execute("predict")


if __name__ == "__main__":
    main()
