"""Consoles, lines and tables of a run for the terminal."""

import os
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from math import nan
from typing import Any, final

from rich import box
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

from ..runtime.text import printable
from ..storage.records import FINISHED, JobRecord
from ..training.callbacks import Progress
from ..training.history import Epoch, History
from ..training.metrics import METRICS, compared, shown
from ..training.summary import summary_key
from .verdict import Accuracy

_MAX_ROWS = 40
_PLAIN_WIDTH = 200  # of a table for a file or a pipe
_NAME = 20  # characters of a name that are on one line in any terminal
_ENDLESS = 10_000  # characters, to measure the natural width of a table


@final
class PlainConsole(Console):
    """A console that prints text unchanged, in lines, titles and tables.

    The texts are names, paths and options of users. They are not interpreted as markup, emoji codes
    or escape sequences.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        columns = str(options.get("width") or os.environ.get("COLUMNS", ""))
        if self.is_dumb_terminal and columns.isdecimal():  # rich assumes a width of 80
            self.size = ConsoleDimensions(int(columns), 25)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text that rich prints for a string."""
        return super().render_str(printable(text, self.encoding), **options)

    @property
    def is_live(self) -> bool:
        """Whether a line can be overwritten."""
        return self.is_terminal and not self.is_dumb_terminal


def console() -> PlainConsole:
    """Return the console of standard output, wide and without colours if it is no terminal."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return PlainConsole(file=sys.stdout, soft_wrap=False, width=width)


def longest_name(width: int) -> int:
    """Return how many characters of a name are on one line of a table of this width."""
    return max(_NAME, width // 4)


def first_that_fits(tables: Iterable[Table], width: int) -> Table:
    """Return the first table that fits ``width`` characters, or else the last one.

    The last one folds cells that do not fit, since a truncated number would be wrong.
    """
    out = PlainConsole()
    endless = out.options.update(width=_ENDLESS)
    for table in tables:
        if out.measure(table, options=endless).maximum <= width:
            return table
    for column in table.columns:
        column.no_wrap, column.overflow, column.min_width = False, "fold", None
    return table


def table_of_parts(
    parts: Sequence[Sequence[Mapping[str, str]]],
    shown: Sequence[str],
    names: Container[str],
    longest: int,
) -> Table:
    """Return a table with several parts of rows, given as cells by title.

    Parameters
    ----------
    shown
        The titles of its columns.
    names
        Titles of columns with names, which are folded if they are longer than ``longest``.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in shown:
        left = title in names or title in ("set", "95 % interval")
        table.add_column(
            title,
            justify="left" if left else "right",
            no_wrap=title not in names,
            overflow="fold" if title in names else "ellipsis",
            max_width=longest if title in names else None,
        )
    for part in parts:
        for row in part:
            table.add_row(*(row[title] for title in shown))
        table.add_section()
    return table


def live_line(progress: Progress) -> str:
    """Return the progress line: epoch and batch (from 0), the last batch, time gone and left."""
    return (
        f"epoch {progress.epoch}/{progress.n_epochs - 1}  "
        f"batch {progress.batch}/{progress.n_batches - 1}  "
        f"accuracy {progress.accuracy:.3f}  loss {progress.loss:.4f}  "
        f"{seconds(progress.elapsed)} gone, {seconds(progress.remaining)} left"
    )


def epoch_line(progress: Progress) -> str:
    """Return a line with the last epoch's accuracy and loss for each set."""
    sets = progress.history.last.sets
    values = "  ".join(
        f"{name} accuracy {e.values['accuracy']:.3f} loss {e.values['loss']:.4f}"
        for name, e in sets.items()
    )
    return (
        f"epoch {progress.epoch}/{progress.n_epochs - 1}  {values}  "
        f"({seconds(progress.elapsed)} gone, {seconds(progress.remaining)} left)"
    )


def job_line(title: str, record: JobRecord) -> str:
    """Return a line for a job of a sweep, with its result or the reason of its failure."""
    if record.status != FINISHED:
        return f"{title}  {record.status}: {record.reason}"
    name = record.monitor.partition("/")[0]
    values = "  ".join(
        f"{metric} {record.values.get(summary_key('final', f'{name}/{metric}'), nan):.3f}"
        for metric in compared()
    )
    return f"{title}  {name} {values}  {seconds(record.seconds)}"


def seconds(value: float) -> str:
    """Return a duration as text: 0.42 s, 12 s, 3:05, 1:02:03, or ? for NaN."""
    if value != value:
        return "?"
    if value < 10:
        return f"{value:.2f} s"
    if value < 59.5:
        return f"{value:.0f} s"
    minutes, remainder = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"


def epoch_table(history: History, name: str, width: int = _PLAIN_WIDTH) -> Table:
    """Return the table of a run: a row for each epoch, for each set its metrics.

    If that is wider than ``width`` characters, each set has a separate row, and if necessary rates
    and metrics are left out. Of a long run only some epochs are shown, with the best (marked *) and
    the last.
    """
    layers, metrics = _distinct_rates(history), shown()
    ends = [metrics[0], metrics[-1]]
    narrow = [(layers, metrics), ([], metrics), ([], ends), ([], ends[:1])]
    return first_that_fits(
        (
            _wide_table(history, name, layers),
            *(_narrow_table(history, name, *columns) for columns in narrow),
        ),
        width,
    )


def verdict_table(rows: Sequence[Accuracy]) -> Table:
    """Return a table of the final accuracies, intervals and baselines, a row for each set."""
    cells = [dict(zip(row.titles, row.cells, strict=True)) for row in rows]
    return table_of_parts([cells], rows[0].titles, (), 0)


def best_line(history: History) -> str:
    """Return a line with the best epoch and its monitored value."""
    value = history.best.flat()[history.monitor]
    return f"Best epoch: {history.best.epoch}, by {history.monitor} {value:.4f}."


def _empty_table(name: str, layers: Sequence[str]) -> Table:
    """Return a table with columns for the epoch and the rates of these layers."""
    table = Table(title=name, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("\nepoch", justify="right")
    for layer in layers:
        table.add_column(f"rate\n{layer}", justify="right")
    return table


def _wide_table(history: History, name: str, layers: Sequence[str]) -> Table:
    table = _empty_table(name, layers)
    sets = list(history.final.sets)
    for metric in shown():
        for i, set_name in enumerate(sets):
            table.add_column(f"{metric if i == 0 else ''}\n{set_name}", justify="right")
    for epoch in _some(history):
        cells = [_cell(epoch, set_name, metric) for metric in shown() for set_name in sets]
        table.add_row(*_start(history, epoch, layers), *cells)
    return table


def _narrow_table(
    history: History, name: str, layers: Sequence[str], metrics: Sequence[str]
) -> Table:
    table = _empty_table(name, layers)
    table.add_column("\nset")
    for metric in metrics:
        table.add_column(f"\n{metric}", justify="right")
    for epoch in _some(history):
        start = _start(history, epoch, layers)
        for set_name in epoch.sets:
            table.add_row(*start, set_name, *(_cell(epoch, set_name, m) for m in metrics))
            start = [""] * len(start)
    return table


def _start(history: History, epoch: Epoch, layers: Sequence[str]) -> list[str]:
    mark = "*" if epoch is history.best else ""
    return [f"{mark}{epoch.epoch}", *(f"{epoch.rates[layer]:.2e}" for layer in layers)]


def _cell(epoch: Epoch, set_name: str, metric: str) -> str:
    evaluation = epoch.sets[set_name]
    if metric in evaluation.undefined:
        return "0 (0/0)"
    return METRICS[metric].text(evaluation.values[metric])


def _distinct_rates(history: History) -> list[str]:
    """Return the layers whose learning rates differ from those of the layers before."""
    seen: dict[tuple[float, ...], str] = {}
    for layer in history.final.rates:
        seen.setdefault(tuple(epoch.rates[layer] for epoch in history.epochs), layer)
    return list(seen.values())


def _some(history: History) -> list[Epoch]:
    epochs = history.epochs
    step, always = -(-len(epochs) // _MAX_ROWS), (history.best.epoch, history.last.epoch)
    return [e for e in epochs if e.epoch % step == 0 or e.epoch in always]
