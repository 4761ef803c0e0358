"""A metric is one row of the table: everything that names metrics shows the new one."""

import base64
import io
import json
import zlib

import pytest
import toy

from nnjit.commands.compare import run_row
from nnjit.reporting import figures, terminal, variants
from nnjit.storage.records import FINISHED, JobRecord
from nnjit.tracking.summary import metrics_digest
from nnjit.tracking.views import view_tag
from nnjit.training import metrics
from nnjit.training.metrics import Metric
from nnjit.training.summary import summarise

NAME = "miss_rate"


def trained(**options):
    data = toy.data()
    return toy.trainer(**options).fit(toy.model(), data), data


@pytest.fixture
def row(monkeypatch):
    """Add a metric in one row: the share of clips of the class that were missed."""
    rate = Metric(NAME, lambda tp, fp, fn, tn: (fn, tp + fn), higher_is_better=False, shown=True)
    monkeypatch.setitem(metrics.METRICS, NAME, rate)


def record(number, value):
    values = {f"{w}/val_{m}": value for w in ("final", "best") for m in metrics.compared()}
    values["baseline/val_accuracy"] = 0.5
    overrides = [f"model={'ab'[number]}"]
    return JobRecord(
        number, overrides, status=FINISHED, values=values, monitor=f"val/{NAME}", seconds=1.0
    )


def text(table):
    out = terminal.PlainConsole(file=io.StringIO(), width=200)
    out.print(table)
    return out.file.getvalue()


def test_in_epochs_summary_and_the_table_of_a_run(row):
    history, data = trained()
    for evaluation in history.last.sets.values():
        assert evaluation.values[NAME] == pytest.approx(1 - evaluation.values["recall"])
    assert f"final/val_{NAME}" in summarise(history, data)
    shown = text(terminal.epoch_table(history, "a run"))
    assert NAME in shown
    value = history.last.sets["val"].values[NAME]
    assert f"{value:.3f}" in shown


def test_in_the_curves(row):
    figure = figures.learning_curves(*trained())
    titles = [axis.get_title() for axis in figure.axes]
    assert NAME in titles[: titles.index("loss")]


def test_it_tells_the_best_epoch_and_its_direction_ranks(row):
    history, _ = trained(monitor=f"val/{NAME}", epochs=6)
    values = [epoch.flat()[f"val/{NAME}"] for epoch in history.epochs]
    assert history.best.epoch == values.index(min(values))
    ranked = variants.group([record(0, 0.9), record(1, 0.1)])
    assert [v.name for v in ranked] == ["model=b", "model=a"]


def test_in_the_tables_of_a_sweep(row):
    found = variants.group([record(0, 0.9), record(1, 0.1)])
    assert NAME in text(variants.table(found, 200))
    assert NAME.replace("_", r"\_") in variants.markdown(found)
    assert variants.means(found)[f"model=b/val_{NAME}_mean"] == 0.1
    assert f"{NAME} 0.900" in terminal.job_line("[1/1]", record(0, 0.9))


def test_in_comparisons(row):
    from test_compare import comparison, run

    runs = [run(1, **{f"final/val_{NAME}": 0.25}), run(2, **{f"final/val_{NAME}": 0.75})]
    assert run_row(runs[0])[f"final/val_{NAME}"] == 0.25
    assert (f"val\n{NAME}", f"val/{NAME}") in comparison._measured(["val"])
    (group,) = comparison.group_rows(runs, ["model"])
    assert group[f"final/val_{NAME}_mean"] == 0.5


def test_in_views(row):
    _, value = view_tag("mine")
    packed = json.loads(value)["state"].split(";")[1]
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert f"metrics.`val/{NAME}`" in state["selectedColumns"]
    assert f"final/val_{NAME}" in {chart["metricKey"] for chart in state["compareRunCharts"]}


def test_the_digest_of_a_run_stays(monkeypatch):
    before = metrics_digest(trained()[0])
    rate = Metric(NAME, lambda tp, fp, fn, tn: (fn, tp + fn))
    monkeypatch.setitem(metrics.METRICS, NAME, rate)
    assert metrics_digest(trained()[0]) == before


def test_a_checkpoint_that_lacks_it_is_completed(row):
    history, data = trained()
    whole = [epoch.flat() for epoch in history.epochs]
    for epoch in history.epochs:
        for evaluation in epoch.sets.values():
            del evaluation.values[NAME]
    history.complete(data.positive, data.classes)
    assert [epoch.flat() for epoch in history.epochs] == whole
