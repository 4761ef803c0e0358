"""``python -m nnjit.predict``; what it does is in `nnjit.commands.predict`."""

from .commands.predict import main

if __name__ == "__main__":
    main()
