"""The tables of ``nnjit.compare``: a line for each run, or for each group of runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ..errors import ConfigError
from ..runtime.text import count
from ..training import metrics
from . import terminal, verdict
from .variants import Estimate, estimate

if TYPE_CHECKING:
    from ..tracking.recorded import RecordedRun

_SETS = ("val", "test")
_SETTINGS = ("model", "dataset", "split", "seed", "status")
_GROUPED = (  # columns from wide to narrow, after those with all metrics
    ("runs", "set", "accuracy", "95 % interval", "baseline"),
    ("set", "accuracy", "baseline"),
    ("set", "accuracy"),
)
_SHORT = 8  # digits of an id
_MOST = 100  # runs in a table, unless more are asked for
_NONE = "-"


def print_runs(
    runs: Sequence["RecordedRun"], more: Sequence[str] = (), most: int | None = None
) -> None:
    """Print a line for each run, and above the table the values that all runs share."""
    out, all_runs = terminal.console(), runs
    runs = all_runs[: most or _MOST]
    values = {key: [_text(run.value(key)) for run in runs] for key in _SETTINGS}
    shared = {key: texts[0] for key, texts in values.items() if len(set(texts)) == 1}
    varied = [key for key in _SETTINGS if key not in shared]
    named = [key for key in varied if not all(f"{key}=" in run.name for run in runs)]
    same = ", ".join(f"{key} {value}" for key, value in shared.items() if value != _NONE)
    first = f", the first {len(runs)}" if len(runs) < len(all_runs) else ""
    out.print(f"{count(len(all_runs), 'run')}{first}{': ' * bool(same)}{same}", soft_wrap=True)
    sets = _sets(runs)
    guess = (f"{sets[0]}\nbaseline", f"baseline/{sets[0]}_accuracy")
    measured = _measured(sets)
    choices: tuple[tuple[list[str], list[tuple[str, str]], bool], ...] = (
        # From wide to narrow: the least important columns are left out first.
        (varied, [*measured, guess, *_best(sets)], True),
        (varied, [*measured, guess], True),
        (named, [*measured, guess], True),
        (named, [*_measured(sets[:1]), guess], True),
        (named, [measured[0], guess], False),
        ([], [measured[0], guess], False),
        ([], measured[:1], False),
    )
    longest = terminal.longest_name(out.width)
    tables = (
        _run_table(runs, [*keys, *more], shown, longest, time) for keys, shown, time in choices
    )
    out.print(terminal.first_that_fits(tables, out.width))
    if first:
        out.print(f"and {len(all_runs) - len(runs)} more: limit={len(all_runs)} shows all")
    for run in runs:
        if reason := run.value("failure"):
            out.print(f"{run.status.lower():8} {run.id[:_SHORT]} {reason}", soft_wrap=True)


def _run_table(
    runs: Sequence["RecordedRun"],
    settings: Sequence[str],
    measured: Sequence[tuple[str, str]],
    longest: int,
    time: bool,
) -> Table:
    table = _table()
    table.add_column("run", overflow="fold", min_width=12, max_width=longest)
    for key in settings:
        table.add_column(key, overflow="fold", min_width=4)
    for title, _ in measured:
        table.add_column(title, justify="right", no_wrap=True)
    if time:
        table.add_column("time", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True, min_width=_SHORT)
    for run in runs:
        cells = [_text(run.value(key)) for key in (*settings, *(key for _, key in measured))]
        if time:
            cells.append(_NONE if run.seconds is None else terminal.seconds(run.seconds))
        table.add_row(run.name, *cells, run.id[:_SHORT])
    return table


def _measured(sets: Sequence[str]) -> list[tuple[str, str]]:
    """Return titles and keys of the metrics of some sets."""
    return [(f"{s}\n{metric}", f"{s}/{metric}") for s in sets for metric in metrics.compared()]


def _best(sets: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"best {s}\naccuracy", f"best/{s}_accuracy") for s in sets]


def print_groups(runs: Sequence["RecordedRun"], keys: Sequence[str]) -> None:
    """Print the means over the runs of each group, best first: a line for each set and group."""
    out, groups = terminal.console(), _groups(runs, keys)
    rows = [
        [
            _group_row(names, keys, members, s)
            for names, members in groups.items()
            if _estimate(members, f"{s}/accuracy") is not None
        ]
        for s in dict.fromkeys(s for members in groups.values() for s in _sets(members))
    ]
    left = sum(run.status != "FINISHED" for run in runs)
    out.print(
        "Means over the finished runs of each group ± standard deviation; 95 % interval of the "
        "mean (Student's t)." + f" {count(left, 'run')} did not finish." * bool(left),
        soft_wrap=True,
    )
    longest = terminal.longest_name(out.width)
    first, *others = metrics.compared()
    widest = ("runs", "set", first, "95 % interval", *others, "best accuracy", "baseline")
    tables = (
        terminal.table_of_parts(rows, (*keys, *shown), keys, longest)
        for shown in (widest, *_GROUPED)
    )
    out.print(terminal.first_that_fits(tables, out.width))
    for s in dict.fromkeys(row["set"] for rows_of_set in rows for row in rows_of_set):
        if line := verdict.comparison(s, _accuracies(groups, s)):
            out.print(line)


def _accuracies(
    groups: Mapping[tuple[str, ...], Sequence["RecordedRun"]], s: str
) -> Iterator[tuple[str, float, float, float]]:
    """Yield name, interval and baseline of each group that has an accuracy on a set."""
    for names, members in groups.items():
        mean, baseline = (
            _estimate(members, key) for key in (f"{s}/accuracy", f"baseline/{s}_accuracy")
        )
        if mean is not None and baseline is not None:
            yield " ".join(names), mean.low, mean.high, baseline.mean


def _group_row(
    names: Sequence[str], keys: Sequence[str], members: Sequence["RecordedRun"], s: str
) -> dict[str, str]:
    """Return the cells of a group by the titles of their columns."""
    estimates = {
        title: _estimate(members, key)
        for title, key in (
            *((metric, f"{s}/{metric}") for metric in metrics.compared()),
            ("best accuracy", f"best/{s}_accuracy"),
        )
    }
    baseline, accuracy = _estimate(members, f"baseline/{s}_accuracy"), estimates["accuracy"]
    return {
        **dict(zip(keys, names, strict=True)),
        **{title: _NONE if e is None else str(e) for title, e in estimates.items()},
        "runs": _NONE if accuracy is None else str(accuracy.n),
        "set": s,
        "95 % interval": _NONE if accuracy is None else accuracy.interval,
        "baseline": _NONE if baseline is None else f"{baseline.mean:.3f}",
    }


def group_rows(runs: Sequence["RecordedRun"], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each group, mean, standard deviation and interval of every metric."""
    rows = []
    for names, members in _groups(runs, keys).items():
        row: dict[str, Any] = {**dict(zip(keys, names, strict=True)), "runs": len(members)}
        for s in ("train", *_SETS):
            for when in ("final", "best"):
                for metric in metrics.METRICS:
                    key = f"{when}/{s}_{metric}"
                    e = _estimate(members, key)
                    row |= {
                        f"{key}_{p}": getattr(e, p, None) for p in ("mean", "sd", "low", "high")
                    }
        rows.append(row)
    return rows


def _groups(
    runs: Sequence["RecordedRun"], keys: Sequence[str]
) -> dict[tuple[str, ...], list["RecordedRun"]]:
    """Return the finished runs by their values of the keys, best group first."""
    groups: dict[tuple[str, ...], list[RecordedRun]] = {}
    for run in runs:
        if run.status == "FINISHED":
            groups.setdefault(tuple(_text(run.value(key)) for key in keys), []).append(run)
    if not groups:
        raise ConfigError(f"none of the {count(len(runs), 'run')} is finished: leave group= out")

    def rank(names: tuple[str, ...]) -> float:
        e = _estimate(groups[names], f"{_sets(groups[names])[0]}/accuracy")
        return 0.0 if e is None else -e.mean

    return {names: groups[names] for names in sorted(groups, key=rank)}


def _sets(runs: Sequence["RecordedRun"]) -> list[str]:
    """Return the sets for comparisons: validation and test set, or else the training set."""
    known = [s for s in _SETS if any(run.value(f"{s}/accuracy") is not None for run in runs)]
    return known or ["train"]


def _estimate(runs: Sequence["RecordedRun"], key: str) -> Estimate | None:
    values = [value for run in runs if (value := run.value(key)) is not None]
    return estimate(values, metrics.bounds(key)) if values else None


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _text(value: Any) -> str:
    if isinstance(value, float):
        usual = not value or 1e-3 < abs(value) < 1e4
        return f"{value:.3f}" if usual else f"{value:.2e}"
    return _NONE if value is None else str(value)
