"""How far long work on files is, for a person."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from ..runtime.text import printable, say

Report = Callable[[int], None]


@contextlib.contextmanager
def shown(name: str, total: int | None) -> Iterator[Report]:
    """Show on stderr how many bytes are done: a bar on a terminal, else a line at every tenth."""
    if sys.stderr.isatty():
        from rich import console, progress

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TimeRemainingColumn(),
        )
        terminal = console.Console(stderr=True, markup=False, emoji=False, highlight=False)
        with progress.Progress(*columns, console=terminal) as bar:
            task = bar.add_task(printable(name), total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    shown_tenth = -1

    def line(done: int) -> None:
        nonlocal shown_tenth
        tenth = 10 * done // total if total else done // 100_000_000
        if tenth > shown_tenth:
            shown_tenth = tenth
            of = f" of {total / 1e6:.1f}" if total else ""
            say(f"{name}: {done / 1e6:.1f}{of} MB", sys.stderr)

    yield line
