"""``python -m nnjit.compare``: compares the runs in a store, in the terminal or in a file."""

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..errors import ConfigError
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.places import given_path
from ..runtime.secrets import without_passwords
from ..runtime.text import say
from ..training.metrics import METRICS
from .arguments import key_values, store_options

if TYPE_CHECKING:
    from ..tracking.recorded import RecordedRun
    from ..tracking.store import Store

USAGE = """\
Compare the runs in the store, best first.

  python -m nnjit.compare
  python -m nnjit.compare model=gru,lstm dataset=guitar sort=test/accuracy
  python -m nnjit.compare sweep=latest group=model
  python -m nnjit.compare where='metrics.`val/accuracy` > 0.6' out=table.csv

Which runs (several values: VALUE,VALUE; * stands for anything):
model= dataset= split= seed= optimizer= schedule= experiment= name= status= id=
sweep=   the runs of a sweep: its id or first digits, or latest
where=   a condition in MLflow's language

How:
sort=    an attribute, metric or parameter, highest first; -KEY lowest first (default: val/accuracy)
limit=   show at most so many (default: the first 100 in the terminal, all in a file)
group=   means over runs with equal values: group=model, group=model,optimizer.learning_rate
columns= more columns, by the name of an attribute, metric or parameter
out=     write everything to this file: .csv or .json
format=  csv or json instead of a table
view=    save a view of these runs, with charts, in MLflow's pages, under this name
root=    folder of the store (default: runs)
uri=     address of another store
"""
_SETTINGS = ("model", "dataset", "split", "seed", "optimizer", "schedule", "experiment")
_FILTERS = (*_SETTINGS, "name", "status", "id")
_MORE = ("sweep", "where", "sort", "limit", "group", "columns", "out", "format", "view")
_KEYS = (*_FILTERS, *_MORE, "root", "uri")
_FORMATS = ("csv", "json")
_SETS = ("train", "val", "test")
_ABOUT = ("id", "name", "status", "failure", "started", "seconds")
_EXPORTED = (*_ABOUT, *_SETTINGS, "dataset_digest", "weights_digest", "metrics_digest")
_PORT = "http://127.0.0.1:5000"  # where nnjit.ui listens, unless it is taken


@final
@dataclass
class Options:
    """The options of the command."""

    uri: str
    filters: dict[str, list[str]] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)

    def names(self, key: str) -> list[str]:
        """Return the names that an option lists."""
        return [name for name in self.text.get(key, "").split(",") if name]

    @property
    def format(self) -> str:
        """The output format: the suffix of ``out=``, else ``format=``, else empty for a table."""
        out = self.text.get("out")
        return Path(out).suffix[1:].lower() if out else self.text.get("format", "")

    @property
    def limit(self) -> int | None:
        """The largest number of runs to show, None for the default."""
        return int(self.text["limit"]) if "limit" in self.text else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return
    with one_line_errors(), one_line_warnings():
        options = parse(arguments)
        from ..tracking.store import Store

        store = Store.existing(options.uri)
        check_view(store, options)
        runs = select(store, options)
        _write(runs, options)
        if not options.format:
            for line in _pages(store, runs, options):
                say(line)


def parse(arguments: Sequence[str]) -> Options:
    """Return the options from the arguments; ConfigError if a value is not valid."""
    filters, text = {}, {}
    for key, value in key_values(arguments, _KEYS):
        if key in _FILTERS:
            filters[key] = value.split(",")
        else:
            text[key] = value
    options = Options(store_options(text), filters, text)
    if not text.get("limit", "1").isdecimal() or text.get("limit") == "0":
        raise ConfigError(f"limit={text['limit']} must be a whole number, 1 or more")
    if options.format not in ("", *_FORMATS):
        option = f"out={text['out']}" if "out" in text else f"format={text['format']}"
        raise ConfigError(f"{option} has no known format: choose from {', '.join(_FORMATS)}")
    return options


def check_view(store: "Store", options: Options) -> None:
    """Raise ConfigError if a view is to be saved and the store cannot be written."""
    if "view" in options.text and store.uri != options.uri:
        raise ConfigError(
            f"view={options.text['view']} cannot be saved: the store is read-only, leave view= out"
        )


def select(store: "Store", options: Options) -> list["RecordedRun"]:
    """Return the runs that the options select, sorted.

    Raises
    ------
    ConfigError
        If no run is selected, or none has the key to sort by.
    """
    runs = store.runs(options.text.get("where", ""), options.text.get("sweep", ""))
    if not runs:
        raise ConfigError("there is no such run in the store: python -m nnjit.run makes one")
    for key, patterns in options.filters.items():
        values = sorted({str(run.value(key)) for run in runs})
        runs = [run for run in runs if _matches(run.value(key), patterns)]
        if not runs:
            raise ConfigError(f"no run has {key}={','.join(patterns)}: there are {_some(values)}")
    for key in (*options.names("group"), *options.names("columns")):
        _check_key(key, runs)
    return _sorted(runs, options.text.get("sort", ""))[: options.limit]


def _matches(value: Any, patterns: Sequence[str]) -> bool:
    return value is not None and any(fnmatch(str(value), pattern) for pattern in patterns)


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_key(key: str, runs: Sequence["RecordedRun"]) -> None:
    if all(run.value(key) is None for run in runs):
        known = list(dict.fromkeys(name for run in runs[:20] for name in run.keys))
        close = get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(
            f"no run has {key}: {hint}name an attribute, a tag, a metric or a parameter, such as "
            "seconds, model, val/f1, optimizer.learning_rate"
        )


def _sorted(runs: Sequence["RecordedRun"], sort: str) -> list["RecordedRun"]:
    """Return the runs, highest first or, for -KEY, lowest first; those without a value last."""
    key, low = (sort or "val/accuracy").removeprefix("-"), sort.startswith("-")
    if sort:
        _check_key(key, runs)
    having = [(place, run) for run in runs if (place := _comparable(run.value(key))) is not None]
    having.sort(key=lambda pair: pair[0], reverse=not low)
    return [run for _, run in having] + [r for r in runs if _comparable(r.value(key)) is None]


def _comparable(value: Any) -> tuple[float, str] | None:
    """Return a key that sorts numbers above texts; None for a value that cannot be sorted."""
    if isinstance(value, datetime):
        value = value.timestamp()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None if value is None else (-math.inf, str(value))
    return None if math.isnan(number) else (number, "")


def _write(runs: Sequence["RecordedRun"], options: Options) -> None:
    """Write the runs, or their groups, in the chosen format."""
    if not options.format:
        from ..reporting.comparison import print_groups, print_runs

        if options.names("group"):
            print_groups(runs, options.names("group"))
        else:
            print_runs(runs, options.names("columns"), options.limit)
        return
    if options.names("group"):
        from ..reporting.comparison import group_rows

        rows = group_rows(runs, options.names("group"))
    else:
        rows = [run_row(run, options.names("columns")) for run in runs]
    if "out" not in options.text:
        _FORMAT[options.format](rows, sys.stdout)
        return
    path = given_path(options.text["out"])
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            _FORMAT[options.format](rows, file)
    except OSError as error:
        raise ConfigError(f"out={path} cannot be written ({error.strerror})") from None
    say(f"{len(rows)} rows in {path}")


def run_row(run: "RecordedRun", more: Sequence[str] = ()) -> dict[str, Any]:
    """Return the exported values of a run, by name."""
    row = {key: run.value(key) for key in _EXPORTED}
    row["started"] = run.started.isoformat(timespec="seconds")
    for s in _SETS:
        row |= {f"final/{s}_{m}": run.value(f"{s}/{m}") for m in METRICS}
        row |= {f"best/{s}_{m}": run.value(f"best/{s}_{m}") for m in METRICS}
        row[f"baseline/{s}_accuracy"] = run.value(f"baseline/{s}_accuracy")
    row["best/epoch"] = run.value("best/epoch")
    return row | {key: run.value(key) for key in more}


def _csv(rows: Sequence[dict[str, Any]], file: Any) -> None:
    out = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
    out.writeheader()
    out.writerows(rows)


def _json(rows: Sequence[dict[str, Any]], file: Any) -> None:
    def finite(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    plain = [{key: finite(value) for key, value in row.items()} for row in rows]
    narrow = "utf" not in str(getattr(file, "encoding", None) or "utf-8").lower()
    json.dump(plain, file, indent=1, default=str, ensure_ascii=narrow)
    file.write("\n")


_FORMAT = {"csv": _csv, "json": _json}


def _pages(store: "Store", runs: Sequence["RecordedRun"], options: Options) -> list[str]:
    """Return a line with MLflow's page that compares these runs; save a view if asked to."""
    from ..tracking import views

    local = not options.uri.startswith(("http://", "https://"))
    server = _PORT if local else without_passwords(options.uri).rstrip("/")
    name = options.text.get("view")
    shown = [run.id for run in runs[: views.MOST_IN_VIEW if name else views.MOST_IN_ADDRESS]]
    experiments = list(dict.fromkeys(run.experiment_id for run in runs[: len(shown)]))
    note = f" (the first {len(shown)})" if len(shown) < len(runs) else ""
    start = "python -m nnjit.ui, then " if local else ""
    if name:
        for experiment in experiments:
            store.save_view(experiment, name, shown)
        page = views.view_page(server, experiments[0], name, charts=True)
    else:
        page = views.compare_page(server, experiments, shown)
    return [f"open     {start}{page}{note}"]
