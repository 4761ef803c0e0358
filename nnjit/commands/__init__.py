"""The commands: each parses its line, builds, hands over and prints."""

from importlib import import_module

from ..reporting.messages import one_line_errors


def execute(name: str) -> None:
    """Run the command of a name, after which the process ends.

    Ctrl-C is heard before the command is imported: its libraries take seconds.
    """
    with one_line_errors(last=True):
        import_module(f".{name}", __name__).main()
