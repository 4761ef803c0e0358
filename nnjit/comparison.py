"""The tables of ``nnjit.compare``: a line for each run, or for each group of runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from . import terminal
from .errors import ConfigError
from .variants import Estimate, estimate

if TYPE_CHECKING:
    from .tracking.query import RecordedRun

_SETS, _METRICS = ("val", "test"), ("accuracy", "recall", "precision")
_SETTINGS = ("model", "dataset", "split", "seed", "status")
_SHORT = 8  # digits of an id
_NAME = 20  # characters of a name that fit on one line in any terminal
_NONE = "-"
_ENDLESS = 10_000  # characters, to see how wide a table would like to be


def print_runs(runs: Sequence["RecordedRun"], more: Sequence[str] = ()) -> None:
    """Print a line for each run; what all runs share stands above the table."""
    out = terminal.console()
    values = {key: [_text(run.value(key)) for run in runs] for key in _SETTINGS}
    shared = {key: seen[0] for key, seen in values.items() if len(set(seen)) == 1}
    varied = [key for key in _SETTINGS if key not in shared]
    named = [key for key in varied if not all(f"{key}=" in run.name for run in runs)]
    same = ", ".join(f"{key} {value}" for key, value in shared.items() if value != _NONE)
    out.print(f"{_count(len(runs), 'run')}{': ' * bool(same)}{same}", soft_wrap=True)
    sets = _sets(runs)
    choices = (  # from wide to narrow
        (varied, _measured(sets) + _best(sets)),
        (varied, _measured(sets)),
        (named, _measured(sets)),
        (named, _measured(sets[:1])),
    )
    longest = max(_NAME, out.width // 4)  # a long name takes several lines
    tables = [_run_table(runs, [*keys, *more], shown, longest) for keys, shown in choices]
    endless = out.options.update(width=_ENDLESS)
    fitting = (t for t in tables if out.measure(t, options=endless).maximum <= out.width)
    out.print(next(fitting, tables[-1]))
    for run in runs:
        if reason := run.value("failure"):
            out.print(f"{run.status.lower():8} {run.id[:_SHORT]} {reason}", soft_wrap=True)


def _run_table(
    runs: Sequence["RecordedRun"],
    settings: Sequence[str],
    measured: Sequence[tuple[str, str]],
    longest: int,
) -> Table:
    table = _table()
    table.add_column("run", overflow="fold", min_width=12, max_width=longest)
    for key in settings:
        table.add_column(key, overflow="fold", min_width=4)
    for title, _ in measured:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True, min_width=_SHORT)
    for run in runs:
        cells = [_text(run.value(key)) for key in (*settings, *(key for _, key in measured))]
        time = _NONE if run.seconds is None else terminal.seconds(run.seconds)
        table.add_row(run.name, *cells, time, run.id[:_SHORT])
    return table


def _measured(sets: Sequence[str]) -> list[tuple[str, str]]:
    """Return titles and keys of the metrics of some sets, and of the guess to beat."""
    found = [(f"{s}\n{metric}", f"{s}/{metric}") for s in sets for metric in _METRICS]
    return [*found, (f"{sets[0]}\nbaseline", f"baseline/{sets[0]}_accuracy")]


def _best(sets: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"best {s}\naccuracy", f"best/{s}_accuracy") for s in sets]


def print_groups(runs: Sequence["RecordedRun"], keys: Sequence[str]) -> None:
    """Print the means over the runs of each group, best first: a line for each set and group."""
    out, table = terminal.console(), _table()
    for title in (*keys, "runs", "set"):
        table.add_column(title, justify="right" if title == "runs" else "left", overflow="fold")
    for title in ("accuracy", "95 % interval", "recall", "precision", "best accuracy", "baseline"):
        table.add_column(title, justify="right", no_wrap=True)
    groups = _groups(runs, keys)
    for s in dict.fromkeys(s for members in groups.values() for s in _sets(members)):
        for names, members in groups.items():
            accuracy = _estimate(members, f"{s}/accuracy")
            if accuracy is None:
                continue
            rest = [_estimate(members, key) for key in (f"{s}/recall", f"{s}/precision")]
            rest.append(_estimate(members, f"best/{s}_accuracy"))
            baseline = _estimate(members, f"baseline/{s}_accuracy")
            table.add_row(
                *names,
                str(accuracy.n),
                s,
                str(accuracy),
                accuracy.interval,
                *(_NONE if e is None else str(e) for e in rest),
                _NONE if baseline is None else f"{baseline.mean:.3f}",
            )
        table.add_section()
    left = sum(run.status != "FINISHED" for run in runs)
    out.print(
        "Means over the finished runs of each group ± standard deviation; 95 % interval of the "
        "mean (Student's t)." + f" {_count(left, 'run')} did not finish." * bool(left),
        soft_wrap=True,
    )
    out.print(table)


def group_rows(runs: Sequence["RecordedRun"], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each group, mean, spread and interval of what `print_groups` shows, and more."""
    rows = []
    for names, members in _groups(runs, keys).items():
        row: dict[str, Any] = {**dict(zip(keys, names, strict=True)), "runs": len(members)}
        for s in ("train", *_SETS):
            for when in ("final", "best"):
                for metric in (*_METRICS, "loss"):
                    key = f"{when}/{s}_{metric}"
                    e = _estimate(members, key, share=metric != "loss")
                    row |= {
                        f"{key}_{p}": getattr(e, p, None) for p in ("mean", "sd", "low", "high")
                    }
        rows.append(row)
    return rows


def _groups(
    runs: Sequence["RecordedRun"], keys: Sequence[str]
) -> dict[tuple[str, ...], list["RecordedRun"]]:
    """Return the finished runs by their values of the keys, best group first."""
    found: dict[tuple[str, ...], list[RecordedRun]] = {}
    for run in runs:
        if run.status == "FINISHED":
            found.setdefault(tuple(_text(run.value(key)) for key in keys), []).append(run)
    if not found:
        raise ConfigError(f"none of the {_count(len(runs), 'run')} is finished: leave group= out")

    def rank(names: tuple[str, ...]) -> float:
        e = _estimate(found[names], f"{_sets(found[names])[0]}/accuracy")
        return 0.0 if e is None else -e.mean

    return {names: found[names] for names in sorted(found, key=rank)}


def _sets(runs: Sequence["RecordedRun"]) -> list[str]:
    """Return the sets to judge by: those that were not trained on, where there are any."""
    known = [s for s in _SETS if any(run.value(f"{s}/accuracy") is not None for run in runs)]
    return known or ["train"]


def _estimate(runs: Sequence["RecordedRun"], key: str, share: bool = True) -> Estimate | None:
    values = [value for run in runs if (value := run.value(key)) is not None]
    return estimate(values, share) if values else None


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def _text(value: Any) -> str:
    if isinstance(value, float):
        usual = not value or 1e-3 < abs(value) < 1e4
        return f"{value:.3f}" if usual else f"{value:.2e}"
    return _NONE if value is None else str(value)
