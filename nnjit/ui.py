"""``python -m nnjit.ui``; what it does is in `nnjit.commands.ui`."""

from .commands.ui import main

if __name__ == "__main__":
    main()
