"""The callback that prints a run: data and model, progress, results, and further commands."""

import sys
import time
from typing import final

from rich.live import Live
from rich.text import Text

from ..parts import Part
from ..runtime.text import printable, say
from ..training.callbacks import Callback, Progress
from ..training.run import Trained, TrainingRun
from . import verdict
from .terminal import (
    PlainConsole,
    best_line,
    console,
    epoch_line,
    epoch_table,
    live_line,
    verdict_table,
)

_REFRESH = 0.1  # seconds between two updates of the progress line


@final
class Display(Callback, Part):
    """Prints a progress line on a terminal, or a line for each epoch to a file or a pipe.

    Parameters
    ----------
    out
        The console for all output; None is standard output.
    live
        The console for the progress line, if it is a terminal; None is ``out``. A job of a sweep
        prints to a file, and draws the line on the terminal of the sweep.
    title
        The beginning of the progress line.
    """

    def __init__(
        self, out: PlainConsole | None = None, live: PlainConsole | None = None, title: str = ""
    ) -> None:
        self._out = out or console()
        self._terminal = live if live is not None and live.is_live else self._out
        self._title = title
        self._run: TrainingRun | None = None
        self._live: Live | None = None
        self._shown = 0.0

    def on_run_start(self, run: TrainingRun) -> None:
        """Print the data set and the model."""
        self._run, self._title = run, run.info.live_title
        if self._title and (screen := PlainConsole(file=sys.__stdout__)).is_live:
            self._terminal = screen
        self._out.print(run.data.describe(), run.model.summary(), sep="\n\n", end="\n\n")

    def on_train_begin(self, progress: Progress) -> None:
        """Start the progress line."""
        if self._terminal.is_live:
            self._live = Live(console=self._terminal, auto_refresh=False, transient=True)
            self._live.start()

    def on_batch_end(self, progress: Progress) -> None:
        """Update the progress line, unless the last update was very recent."""
        now = time.perf_counter()
        if self._live is not None and now - self._shown >= _REFRESH:
            self._shown = now
            line = f"{self._title}  {live_line(progress)}".strip()
            self._live.update(
                Text(printable(line), no_wrap=True, overflow="ellipsis"), refresh=True
            )

    def on_epoch_end(self, progress: Progress) -> None:
        """Print the epoch if there is no progress line."""
        if self._live is None or self._terminal is not self._out:
            self._out.print(epoch_line(progress))

    def on_train_end(self, progress: Progress) -> None:
        """Print the results, before they are recorded, which may take a while."""
        self.close()
        if self._run is None:
            return
        self._out.print(epoch_table(progress.history, self._run.info.name, self._out.width))
        rows = verdict.accuracies(progress.history, self._run.data)
        self._out.print(verdict_table(rows), verdict.sentence(rows), sep="")
        self._out.print(best_line(progress.history), end="\n\n")

    def on_run_end(self, run: TrainingRun, trained: Trained) -> None:
        """Print the lines of the other callbacks."""
        for line in run.lines:
            self._out.print(line, soft_wrap=True)

    def on_exception(self, run: TrainingRun, error: BaseException) -> None:
        """Stop the progress line, and print the lines of the other callbacks."""
        self.close()
        for line in run.lines:
            # Not with the console: one that was interrupted while printing keeps its buffer.
            say(line, self._out.file)

    def close(self) -> None:
        """Stop the progress line, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None
