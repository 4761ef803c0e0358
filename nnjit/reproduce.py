"""``python -m nnjit.reproduce``; what it does is in `nnjit.commands.reproduce`."""

from .commands.reproduce import main

if __name__ == "__main__":
    main()
