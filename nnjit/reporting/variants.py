"""The variants of a sweep: equal settings with several seeds, and means with intervals."""

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
_SEEDS = ("seed", "trainer.seed")  # overrides in which the jobs of one variant differ


@final
@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its standard deviation and confidence interval (Student's t).

    With one seed, standard deviation and interval are NaN.
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
        """The interval as text, a dash if there is none."""
        return f"{self.low:.3f} to {self.high:.3f}" if self.n > 1 else "-"


def estimate(values: Sequence[float], bounds: tuple[float, float] | None = None) -> Estimate:
    """Return mean, standard deviation and 95 % interval, which is clipped to the bounds."""
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
        """The sets for comparisons: validation and test set, or else the training set."""
        known = [s for s in ("val", "test") if summary_key("final", f"{s}/accuracy") in self.keys]
        return known or ["train"]

    @property
    def keys(self) -> list[str]:
        """The names of the values that all of its jobs have."""
        first, *others = (record.values for record in self.records)
        return [key for key in first if all(key in values for values in others)]

    def values(self, key: str) -> list[float]:
        """Return the value of each job, NaN if it has none."""
        return [record.values.get(key, nan) for record in self.records]

    def estimate(self, key: str) -> Estimate:
        """Return the mean of a value over the seeds."""
        return estimate(self.values(key), metrics.bounds(key))


def label(record: JobRecord, varied: Sequence[str] | None) -> str:
    """Return the label of a job: its overrides that vary, or else its model."""
    return " ".join(chosen(record.overrides, varied)) or record.model


def chosen(overrides: Sequence[str], varied: Sequence[str] | None) -> list[str]:
    """Return the overrides that vary in a sweep; all if ``varied`` is None."""
    return [o for o in overrides if varied is None or _key(o) in varied]


def group(records: Sequence[JobRecord]) -> list[Variant]:
    """Return the variants among the finished jobs, best first by the monitored metric."""
    varied = [key for key in _varied(records) if key not in _SEEDS]
    variants: dict[str, Variant] = {}
    for record in records:
        if record.status == FINISHED:
            name = label(record, varied)
            variants.setdefault(name, Variant(name, [])).records.append(record)
    return sorted(variants.values(), key=_rank)


def _rank(variant: Variant) -> float:
    monitor = variant.records[0].monitor
    mean = variant.estimate(summary_key("final", monitor)).mean
    return -mean if metrics.higher_is_better(monitor) else mean


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _varied(records: Sequence[JobRecord]) -> list[str]:
    """Return the keys whose overrides are not the same in all jobs."""
    by_key = [{_key(o): o for o in record.overrides} for record in records]
    keys = dict.fromkeys(key for overrides in by_key for key in overrides)
    return [key for key in keys if len({overrides.get(key) for overrides in by_key}) > 1]


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
    """Return the titles of all columns."""
    first, *others = metrics.compared()
    middle = (first, "95 % interval", *others)
    return ("variant", "seeds", "set", *middle, "at best epoch", "baseline")


def legend(variants: Sequence[Variant]) -> str:
    """Return an explanation of the columns, and a sentence for each set."""
    monitor, more = variants[0].records[0].monitor, len(variants) - MOST
    hidden = f" {more} more variants are in summary.csv." if more > 0 else ""
    sentences = "".join(f"\n{line}" for line in _sentences(variants))
    return (
        f"Best first by the mean of {monitor}. Values of the last epoch: mean ± standard deviation "
        "over the seeds,\n95 % interval of the mean (Student's t). At best epoch: the accuracy "
        f"where {monitor} was best.\n"
        f"Baseline: always answering the largest class.{hidden}{sentences}"
    )


def _sentences(variants: Sequence[Variant]) -> list[str]:
    """Return a sentence for each set that compares the variants with the baseline."""
    lines = []
    for name in dict.fromkeys(name for variant in variants for name in variant.sets):
        with_set = [variant for variant in variants if name in variant.sets]
        key = summary_key("final", f"{name}/accuracy")
        means = [(v.name, v.estimate(key), v) for v in with_set]
        baseline = f"baseline/{name}_accuracy"
        accuracies = [(label, e.low, e.high, v.estimate(baseline).mean) for label, e, v in means]
        lines += [line] if (line := verdict.comparison(name, accuracies)) else []
    return lines


def table(variants: Sequence[Variant], width: int) -> Table:
    """Return the table of a sweep: a line for each variant and set, best first.

    Columns that do not fit ``width`` characters are left out.
    """
    rows, longest, columns = _rows(variants), terminal.longest_name(width), (_titles(), *_COLUMNS)
    tables = (terminal.table_of_parts(rows, shown, ("variant",), longest) for shown in columns)
    return terminal.first_that_fits(tables, width)


def markdown(variants: Sequence[Variant]) -> str:
    """Return the same table in Markdown."""
    header = _titles()
    rows = [row for rows_of_set in _rows(variants) for row in rows_of_set]
    return markdown_table(header, ([row[title] for title in header] for row in rows))


def means(variants: Sequence[Variant]) -> dict[str, float]:
    """Return means, standard deviations and intervals as ``variant/val_accuracy_mean``."""
    values: dict[str, float] = {}
    for variant in variants[:MOST]:
        for key in (f"{name}_{metric}" for name in variant.sets for metric in metrics.compared()):
            e = variant.estimate(f"final/{key}")
            values[f"{variant.name}/{key}_mean"] = e.mean
            if e.n > 1:
                spread = {p: getattr(e, p) for p in ("sd", "low", "high")}
                values |= {f"{variant.name}/{key}_{p}": value for p, value in spread.items()}
    return values


def write_runs(records: Sequence[JobRecord], path: Path) -> None:
    """Write a CSV with a row for each job: varied overrides, status, and all values."""
    varied = _varied(records)
    values = list(dict.fromkeys(key for record in records for key in record.values))
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["job", *varied, "status", "reason", "seconds", *values])
        for r in records:
            options = {_key(o): o.partition("=")[2] for o in r.overrides}
            cells = [r.number, *(options.get(key, "") for key in varied), r.status, r.reason]
            out.writerow([*cells, f"{r.seconds:.3f}", *(r.values.get(key, "") for key in values)])


def write_variants(variants: Sequence[Variant], path: Path) -> None:
    """Write a CSV with a row for each variant: mean, standard deviation and interval."""
    keys = list(dict.fromkeys(key for variant in variants for key in variant.keys))
    statistics = ("mean", "sd", "low", "high")
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        titles = [f"{key}_{statistic}" for key in keys for statistic in statistics]
        out.writerow(["variant", "seeds", *titles])
        for variant in variants:
            row: list[object] = [variant.name, len(variant.records)]
            for key in keys:
                e = variant.estimate(key) if key in variant.keys else None
                row += [getattr(e, statistic, "") for statistic in statistics]
            out.writerow(row)
