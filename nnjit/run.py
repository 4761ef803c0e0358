"""``python -m nnjit.run``; what it does is in `nnjit.commands.run`."""

from .commands.run import main

if __name__ == "__main__":
    main()
