"""The variants of a sweep: the same settings with several seeds, and how sure their means are."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import final

from rich.table import Table

from ..runtime.text import markdown_table
from ..storage.records import FINISHED, JobRecord
from ..training import metrics
from ..training.summary import summary_key
from . import terminal, verdict

_COLUMNS = (  # from wide to narrow, after the one with every metric
    ("variant", "seeds", "set", "accuracy", "95 % interval", "baseline"),
    ("variant", "set", "accuracy", "baseline"),
    ("variant", "set", "accuracy"),
)
MOST = 40  # variants in tables, figures and the store; all are in the CSV files
_LEVEL = 0.95
_SEEDS = ("seed", "trainer.seed")  # what jobs of one variant differ in


@final
@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its standard deviation and confidence interval (Student's t).

    With one seed there is neither: they are NaN.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" ± {self.sd:.3f}" if self.n > 1 else "")

    @property
    def interval(self) -> str:
        """The interval as people read it, a dash where there is none."""
        return f"{self.low:.3f} to {self.high:.3f}" if self.n > 1 else "-"


def estimate(values: Sequence[float], bounds: tuple[float, float] | None = None) -> Estimate:
    """Return mean, spread and 95 % interval, which ends at the bounds of the values."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return Estimate(n, mean, nan, nan, nan)
    from scipy.special import stdtrit

    sd = stdev(values)
    half = float(stdtrit(n - 1, (1 + _LEVEL) / 2)) * sd / sqrt(n)
    least, most = bounds or (-inf, inf)
    return Estimate(n, mean, sd, max(least, mean - half), min(most, mean + half))


@final
@dataclass(frozen=True)
class Variant:
    """The finished jobs that differ only by their seed."""

    name: str
    records: list[JobRecord]

    @property
    def sets(self) -> list[str]:
        """The sets to judge by: those that were not trained on, where there are any."""
        known = [s for s in ("val", "test") if summary_key("final", f"{s}/accuracy") in self.keys]
        return known or ["train"]

    @property
    def keys(self) -> list[str]:
        """The names of the values that every one of its jobs has."""
        first, *rest = (record.values for record in self.records)
        return [key for key in first if all(key in values for values in rest)]

    def values(self, key: str) -> list[float]:
        """Return a value of each job, NaN where it has none."""
        return [record.values.get(key, nan) for record in self.records]

    def estimate(self, key: str) -> Estimate:
        """Return the mean of a value over the seeds."""
        return estimate(self.values(key), metrics.bounds(key))


def label(record: JobRecord, varied: Sequence[str] | None) -> str:
    """Return what a job is called beside others: what varies, or else its model."""
    return " ".join(chosen(record.overrides, varied)) or record.model


def chosen(overrides: Sequence[str], varied: Sequence[str] | None) -> list[str]:
    """Return the overrides that vary in a sweep, all where that is not known."""
    return [o for o in overrides if varied is None or _key(o) in varied]


def group(records: Sequence[JobRecord]) -> list[Variant]:
    """Return the variants among the finished jobs, best first by what they monitored."""
    varied = [key for key in _varied(records) if key not in _SEEDS]
    found: dict[str, Variant] = {}
    for record in records:
        if record.status == FINISHED:
            name = label(record, varied)
            found.setdefault(name, Variant(name, [])).records.append(record)
    return sorted(found.values(), key=_rank)


def _rank(variant: Variant) -> float:
    monitor = variant.records[0].monitor
    mean = variant.estimate(summary_key("final", monitor)).mean
    return -mean if metrics.higher_is_better(monitor) else mean


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _varied(records: Sequence[JobRecord]) -> list[str]:
    """Return the keys whose overrides are not the same in all jobs."""
    given = [{_key(o): o for o in record.overrides} for record in records]
    keys = dict.fromkeys(key for overrides in given for key in overrides)
    return [key for key in keys if len({overrides.get(key) for overrides in given}) > 1]


def _rows(variants: Sequence[Variant]) -> list[list[dict[str, str]]]:
    """Return the cells of the table by title: for each set a row for each of the best variants."""
    sets = dict.fromkeys(name for variant in variants for name in variant.sets)
    return [[_row(v, name) for v in variants[:MOST] if name in v.sets] for name in sets]


def _row(variant: Variant, name: str) -> dict[str, str]:
    final = {m: variant.estimate(summary_key("final", f"{name}/{m}")) for m in metrics.compared()}
    return {
        "variant": variant.name,
        "seeds": str(len(variant.records)),
        "set": name,
        "95 % interval": final["accuracy"].interval,
        **{metric: str(e) for metric, e in final.items()},
        "at best epoch": str(variant.estimate(summary_key("best", f"{name}/accuracy"))),
        "baseline": f"{variant.estimate(f'baseline/{name}_accuracy').mean:.3f}",
    }


def _titles() -> tuple[str, ...]:
    """Return the titles of the columns where all have room."""
    first, *others = metrics.compared()
    middle = (first, "95 % interval", *others)
    return ("variant", "seeds", "set", *middle, "at best epoch", "baseline")


def legend(variants: Sequence[Variant]) -> str:
    """Return what the columns mean."""
    monitor, more = variants[0].records[0].monitor, len(variants) - MOST
    rest = f" {more} more variants are in summary.csv." if more > 0 else ""
    judged = "".join(f"\n{line}" for line in _judged(variants))
    return (
        f"Best first by the mean of {monitor}. Values of the last epoch: mean ± standard deviation "
        "over the seeds,\n95 % interval of the mean (Student's t). At best epoch: the accuracy "
        f"where {monitor} was best.\nBaseline: always answering the largest class.{rest}{judged}"
    )


def _judged(variants: Sequence[Variant]) -> list[str]:
    """Return a sentence for each set that was not trained on: which variants beat a guess."""
    lines = []
    for name in dict.fromkeys(name for variant in variants for name in variant.sets):
        some = [variant for variant in variants if name in variant.sets]
        means = [(v.name, v.estimate(summary_key("final", f"{name}/accuracy")), v) for v in some]
        baseline = f"baseline/{name}_accuracy"
        told = [(label, e.low, e.high, v.estimate(baseline).mean) for label, e, v in means]
        lines += [line] if (line := verdict.comparison(name, told)) else []
    return lines


def table(variants: Sequence[Variant], width: int) -> Table:
    """Return the table that ends a sweep: a line for each variant and set, best first.

    Columns that ``width`` characters have no room for are left out.
    """
    rows, longest, columns = _rows(variants), terminal.longest_name(width), (_titles(), *_COLUMNS)
    tables = (terminal.parts_table(rows, shown, ("variant",), longest) for shown in columns)
    return terminal.whole(tables, width)


def markdown(variants: Sequence[Variant]) -> str:
    """Return the same table in Markdown."""
    header = _titles()
    rows = [[row[title] for title in header] for part in _rows(variants) for row in part]
    return markdown_table(header, rows)


def means(variants: Sequence[Variant]) -> dict[str, float]:
    """Return what the table shows: mean, spread, interval, as ``variant/val_accuracy_mean``."""
    found: dict[str, float] = {}
    for variant in variants[:MOST]:
        for key in (f"{name}_{metric}" for name in variant.sets for metric in metrics.compared()):
            e = variant.estimate(f"final/{key}")
            found[f"{variant.name}/{key}_mean"] = e.mean
            if e.n > 1:
                found |= {f"{variant.name}/{key}_{p}": getattr(e, p) for p in ("sd", "low", "high")}
    return found


def write_runs(records: Sequence[JobRecord], path: Path) -> None:
    """Write a CSV with a row for each job: what varied, how it ended, every value."""
    varied = _varied(records)
    values = list(dict.fromkeys(key for record in records for key in record.values))
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["job", *varied, "status", "reason", "seconds", *values])
        for r in records:
            given = {_key(o): o.partition("=")[2] for o in r.overrides}
            start = [r.number, *(given.get(key, "") for key in varied), r.status, r.reason]
            out.writerow([*start, f"{r.seconds:.3f}", *(r.values.get(key, "") for key in values)])


def write_variants(variants: Sequence[Variant], path: Path) -> None:
    """Write a CSV with a row for each variant: mean, standard deviation and interval."""
    keys = list(dict.fromkeys(key for variant in variants for key in variant.keys))
    parts = ("mean", "sd", "low", "high")
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["variant", "seeds", *(f"{key}_{part}" for key in keys for part in parts)])
        for variant in variants:
            row: list[object] = [variant.name, len(variant.records)]
            for key in keys:
                e = variant.estimate(key) if key in variant.keys else None
                row += [getattr(e, part, "") for part in parts]
            out.writerow(row)
