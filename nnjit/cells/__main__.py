"""``python -m nnjit.cells``; what it does is in `nnjit.commands.cells`."""

from ..commands.cells import main

if __name__ == "__main__":
    main()
