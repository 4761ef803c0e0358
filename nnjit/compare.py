"""``python -m nnjit.compare``; what it does is in `nnjit.commands.compare`."""

from .commands.compare import main

if __name__ == "__main__":
    main()
