"""The commands: each parses its arguments, calls the other packages and prints."""

from importlib import import_module

from ..reporting.messages import one_line_errors


def execute(name: str) -> None:
    """Run the command with this name; the process must end after it.

    The handlers of Ctrl-C are installed before the import, which takes seconds.
    """
    with one_line_errors(last=True):
        import_module(f".{name}", __name__).main()
