import csv
import math
import os

import pytest

from nnjit.errors import ConfigError
from nnjit.reporting import figures, terminal, variants
from nnjit.runtime import threads
from nnjit.storage.records import FAILED, FINISHED, JobRecord, SweepManifest, read_all
from nnjit.sweeps import jobs, sweep
from nnjit.sweeps.launchers import processes as launcher
from nnjit.training import metrics
from nnjit.training.summary import summary_key


def record(number, model, seed, accuracy, status=FINISHED, **more):
    """Return the record of a job with one accuracy on every set."""
    values = {}
    for name in ("train", "val", "test"):
        values |= {
            f"{w}/{name}_{m}": accuracy for w in ("final", "best") for m in metrics.compared()
        }
        values |= {f"final/{name}_loss": 1 - accuracy, f"baseline/{name}_accuracy": 0.5}
    overrides = ["trainer.epochs=3", f"model={model}", f"seed={seed}"]
    more = {"monitor": "val/accuracy", "model": f"model={model}", **more}
    kept = values if status == FINISHED else {}
    return JobRecord(number, overrides, status=status, values=kept, seconds=1.5, **more)


@pytest.fixture
def records():
    return [
        record(0, "ff", 1, 0.5),
        record(1, "ff", 2, 0.6),
        record(2, "ff", 3, 0.7),
        record(3, "gru", 1, 0.9),
        record(4, "gru", 2, 0.8),
        record(5, "gru", 3, 0.1, FAILED, reason="the loss became nan"),
    ]


def test_estimate_against_values_by_hand():
    e = variants.estimate([0.5, 0.6, 0.7])
    assert e.mean == pytest.approx(0.6)
    assert e.sd == pytest.approx(0.1)
    half = 4.302653 * 0.1 / math.sqrt(3)  # t for 2 degrees of freedom, from a table
    assert (e.low, e.high) == pytest.approx((0.6 - half, 0.6 + half))
    assert str(e) == "0.600 ± 0.100"


def test_interval_of_a_share_stays_a_share():
    e = variants.estimate([0.9, 1.0, 1.0], (0.0, 1.0))
    assert e.high == 1.0
    assert variants.estimate([0.9, 1.0, 1.0]).high > 1.0


def test_one_seed_has_no_spread():
    e = variants.estimate([0.5])
    assert math.isnan(e.sd)
    assert (str(e), e.interval) == ("0.500", "-")


def test_variants_are_grouped_over_seeds_and_best_comes_first(records):
    found = variants.group(records)
    assert [v.name for v in found] == ["model=gru", "model=ff"]
    assert [len(v.records) for v in found] == [2, 3]


def test_a_monitored_loss_is_best_where_it_is_low(records):
    for r in records:
        r.monitor = "val/loss"
        if r.values:
            r.values[summary_key("final", "val/loss")] = r.values["final/val_accuracy"]
    assert [v.name for v in variants.group(records)] == ["model=ff", "model=gru"]


def test_one_variant_takes_the_name_of_its_model(records):
    (found,) = variants.group(records[:3])
    assert found.name == "model=ff"


def test_several_overrides_in_a_name():
    some = [record(i, "ff", 1, 0.5) for i in range(2)]
    some[1].overrides += ["+optimizer.layers.dense.learning_rate=0.1"]
    assert {v.name for v in variants.group(some)} == {
        "model=ff",
        "+optimizer.layers.dense.learning_rate=0.1",
    }


def test_table_fits_120_columns(records):
    console = terminal.console()
    table = variants.table(variants.group(records), console.width)
    assert console.measure(table).maximum <= 120
    with console.capture() as capture:
        console.print(table)
    lines = [line.split() for line in capture.get().splitlines() if "model" in line]
    assert [line[:3] for line in lines] == [
        ["model=gru", "2", "val"],
        ["model=ff", "3", "val"],
        ["model=gru", "2", "test"],
        ["model=ff", "3", "test"],
    ]
    assert lines[1][3:6] == ["0.600", "±", "0.100"]


def test_markdown_has_the_same_cells(records):
    lines = variants.markdown(variants.group(records)).splitlines()
    assert len(lines) == 6
    assert len({line.count("|") for line in lines}) == 1
    assert "0.600 ± 0.100" in lines[3]


def test_files(records, tmp_path):
    variants.write_runs(records, tmp_path / "sweep.csv")
    variants.write_variants(variants.group(records), tmp_path / "summary.csv")
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["model"], r["seed"], r["status"]) for r in rows][-1] == ("gru", "3", "FAILED")
    assert rows[5]["reason"] == "the loss became nan"
    assert rows[5]["final/val_accuracy"] == ""
    assert float(rows[0]["final/val_accuracy"]) == 0.5
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["variant"], r["seeds"]) for r in rows] == [("model=gru", "2"), ("model=ff", "3")]
    assert float(rows[1]["final/val_accuracy_sd"]) == pytest.approx(0.1)


def test_records_are_read_back_in_order(records, tmp_path):
    for r in reversed(records):
        r.number += 8
        r.write(tmp_path)
    assert read_all(tmp_path) == records


def test_job_lines(records):
    line = terminal.job_line("[1/6] model=ff seed=1", records[0])
    assert line == (
        "[1/6] model=ff seed=1  val accuracy 0.500  recall 0.500  precision 0.500  1.50 s"
    )
    line = terminal.job_line("[6/6] model=gru seed=3", records[5])
    assert line == "[6/6] model=gru seed=3  FAILED: the loss became nan"


def test_figure_shows_every_seed_and_baseline(records):
    figure = figures.variants(variants.group(records))
    assert [axis.get_title() for axis in figure.axes] == ["val accuracy", "test accuracy"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0.9, 0.8], [0.5, 0.6, 0.7]]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["model=gru", "model=ff"]


def plan(**more):
    known = {
        "cwd": "/",
        "arguments": ["-m", "seed=1,2"],
        "overrides": ["seed=1,2"],
        "varied": ["model", "seed"],
    }
    return SweepManifest(**{**known, "total": 6, "jobs": None, **more})


def test_titles(records):
    assert jobs.title(plan(), records[4]) == "[5/6] model=gru seed=2"
    every = plan(varied=None, total=None)
    assert jobs.title(every, records[4]) == "[5] trainer.epochs=3 model=gru seed=2"
    assert jobs.title(plan(varied=[]), records[4]) == "[5/6] model=gru"


def test_plan_is_read_back(tmp_path):
    plan(parent="abc").write(tmp_path)
    assert SweepManifest.read(tmp_path) == plan(parent="abc")
    (tmp_path / "sweep.json").write_text('{"total": 3')
    with pytest.raises(ConfigError, match="start the sweep again"):
        SweepManifest.read(tmp_path)


def test_a_lost_job_is_recorded_and_told(tmp_path, capsys):
    plan().write(tmp_path)
    JobRecord(0, ["model=ff", "seed=1"]).write(tmp_path)
    jobs.lost(tmp_path, 0, ["model=ff", "seed=1"], "its process was killed")
    jobs.lost(tmp_path, 1, ["model=ff", "seed=2"], "its process was killed")
    assert [(r.number, r.status) for r in read_all(tmp_path)] == [(0, FAILED), (1, FAILED)]
    assert capsys.readouterr().out.splitlines() == [
        "[1/6] model=ff seed=1  FAILED: its process was killed",
        "[2/6] model=ff seed=2  FAILED: its process was killed",
    ]


def test_a_job_that_had_ended_is_not_lost(records, tmp_path):
    plan().write(tmp_path)
    records[0].write(tmp_path)
    jobs.lost(tmp_path, 0, [], "its process was killed")
    assert read_all(tmp_path) == records[:1]


def test_resuming_keeps_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_resumed", None)
    launched = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    arguments = ["-m", "--config-dir", "conf", "seed=1,2", "model=ff", *launched]
    plan(arguments=arguments, cwd=str(tmp_path)).write(tmp_path)
    monkeypatch.chdir(tmp_path)
    place = f"hydra.sweep.dir={tmp_path}"
    again = ["-m", f"resume={tmp_path}", "--config-dir", "conf"]
    found = sweep.resumed(again)
    assert found == [*arguments[:3], place, *arguments[3:]]
    found = sweep.resumed([*again, "hydra/launcher=basic", "tracking.root=b"])
    new = ["hydra/launcher=basic", "tracking.root=b", place]
    assert found == [*arguments[:3], *new, "seed=1,2", "model=ff"]


def test_a_sweep_goes_on_where_it_began(tmp_path, monkeypatch):
    """Workers are started there, and Python looks for modules where it is started."""
    monkeypatch.setattr(sweep, "_resumed", None)
    plan(arguments=["-m", "seed=1,2"], cwd=str(tmp_path)).write(tmp_path)
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match=r"the sweep began in .*: go there to resume it"):
        sweep.resumed(["-m", f"resume={tmp_path}"])
    assert os.getcwd() == "/"
    plan(arguments=["-m", "seed=1,2"], cwd=str(tmp_path / "moved")).write(tmp_path)
    assert sweep.resumed(["-m", f"resume={tmp_path}"])[-1] == "seed=1,2"


@pytest.mark.parametrize("arguments", [["resume=latest"], ["-m", "seed=1,2"], ["model=gru"]])
def test_other_command_lines_stay(arguments):
    assert sweep.resumed(arguments) == arguments


@pytest.mark.parametrize("n", [0, -2, 1.5])
def test_number_of_workers(n):
    with pytest.raises(ConfigError, match="n_jobs"):
        launcher.JoblibLauncher(n)


def test_a_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.available_cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    shared = threads.available_cores()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.available_cores() == shared


def test_of_a_thousand_variants_the_best_are_shown(tmp_path):
    values = {
        f"{when}/val_{metric}": 0.5
        for when in ("final", "best")
        for metric in ("accuracy", "recall", "precision")
    } | {"baseline/val_accuracy": 0.5}
    many = [
        JobRecord(
            i,
            [f"a={i}"],
            "",
            FINISHED,
            monitor="val/accuracy",
            score=i / 1000,
            values=values | {"final/val_accuracy": i / 1000},
        )
        for i in range(1000)
    ]
    found = variants.group(many)
    assert len(variants.markdown(found).splitlines()) == 2 + variants.MOST
    assert variants.table(found, 120).row_count == variants.MOST
    assert "960 more variants are in summary.csv" in variants.legend(found)
    assert len(variants.means(found)) == 3 * variants.MOST
    figure = figures.variants(found)
    figure.savefig(tmp_path / "f.png")
    assert figure.get_size_inches()[1] < 25
    variants.write_variants(found, tmp_path / "summary.csv")
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1001
