"""The comparison of runs, and what a reproduction tells, on plain values."""

import base64
import csv
import io
import json
import math
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import toy

from nnjit.commands import compare, reproduce, ui
from nnjit.commands.compare import Options, parse, run_row
from nnjit.errors import ConfigError
from nnjit.reporting import comparison
from nnjit.reporting.terminal import PlainConsole
from nnjit.tracking.recorded import RecordedRun
from nnjit.tracking.summary import metrics_digest
from nnjit.tracking.views import _TAG, MOST_IN_VIEW, compare_page, view_page, view_tag
from nnjit.training.history import Epoch, Evaluation, History

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run(number, model="gru", seed=1, accuracy=0.5, status="FINISHED", **more):
    metrics = {f"final/val_{m}": accuracy for m in ("accuracy", "recall", "precision")}
    metrics |= {"val/accuracy": 0.1, "best/val_accuracy": accuracy + 0.1}
    metrics["baseline/val_accuracy"] = 0.5
    return RecordedRun(
        id=f"{number:08x}" * 4,
        name=f"model={model} seed={seed}",
        status=status,
        started=NOW + timedelta(seconds=number),
        seconds=1.5,
        experiment_id="1",
        tags={"nnjit.model": model, "nnjit.dataset": "guitar", "nnjit.seed": str(seed)},
        params={"optimizer.learning_rate": "0.16", "trainer.epochs": str(number)},
        metrics=metrics | more,
    )


RUNS = [run(9, accuracy=0.7), run(10, "rnn", 2, 0.6), run(11, "ff", 3, 0.9), run(12, "gru", 2, 0.8)]


def printed(function, *arguments, width=120, monkeypatch):
    out = PlainConsole(file=io.StringIO(), width=width)
    monkeypatch.setattr(comparison.terminal, "console", lambda: out)
    function(*arguments)
    return out.file.getvalue()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "model=gru seed=1"),
        ("model", "gru"),
        ("nnjit.model", "gru"),
        ("val/accuracy", 0.7),  # that of the model, not the last one
        ("best/val_accuracy", pytest.approx(0.8)),
        ("optimizer.learning_rate", "0.16"),
        ("seconds", 1.5),
        ("test/accuracy", None),
    ],
)
def test_a_value_by_any_name(key, value):
    assert RUNS[0].value(key) == value


def test_the_last_value_where_a_run_did_not_finish():
    unfinished = replace(RUNS[0], metrics={"val/accuracy": 0.3})
    assert unfinished.value("val/accuracy") == 0.3


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", [11, 12, 9, 10]),
        ("val/accuracy", [11, 12, 9, 10]),
        ("-val/accuracy", [10, 9, 12, 11]),
        ("-started", [9, 10, 11, 12]),
        ("trainer.epochs", [12, 11, 10, 9]),  # as numbers: "9" is not the largest
        ("-model", [11, 9, 12, 10]),
    ],
)
def test_sort(sort, expected):
    assert [int(r.id[:8], 16) for r in compare._sorted(RUNS, sort)] == expected


def test_runs_without_a_value_come_last_whatever_the_order():
    empty, undefined = run(1), run(2, **{"final/val_accuracy": math.nan})
    empty.metrics.clear()
    for sort in ("val/accuracy", "-val/accuracy"):
        assert compare._sorted([empty, undefined, *RUNS], sort)[-2:] == [empty, undefined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=gru"], "modle does not exist: did you mean model"),
        (["gru"], "cannot read 'gru'"),
        (["limit=0"], "limit=0 must be"),
        (["limit=x"], "limit=x must be"),
        (["out=a.txt"], "out=a.txt has no known format"),
        (["format=xml"], "format=xml has no known format: choose from csv, json"),
    ],
)
def test_parse_refuses(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse(arguments)


def test_parse():
    options = parse(
        ["model=gru,rnn", "limit=3", "out=x.JSON", "group=model,seed", "uri=sqlite:///x"]
    )
    assert options.filters == {"model": ["gru", "rnn"]}
    assert (options.limit, options.format, options.uri) == (3, "json", "sqlite:///x")
    assert options.names("group") == ["model", "seed"]


@pytest.mark.parametrize("module", [compare, reproduce, ui])
def test_help_names_every_option(module, capsys):
    module.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"{key}=" in text for key in module._KEYS)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_table_fits(width, monkeypatch):
    lines = printed(comparison.print_runs, RUNS, width=width, monkeypatch=monkeypatch).splitlines()
    assert lines[0] == "4 runs: dataset guitar, status FINISHED"
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    rows = [line.split() for line in lines if "model=" in line]
    assert [row[:2] for row in rows] == [r.name.split() for r in RUNS]
    assert [row[-1] for row in rows] == [r.id[:8] for r in RUNS]
    for row, accuracy in zip(rows, ("0.700", "0.600", "0.900", "0.800"), strict=True):
        assert accuracy in row
    assert ("best" in "".join(lines)) == (width > 80)


def test_a_long_name_takes_lines_and_no_columns(monkeypatch):
    long = replace(RUNS[0], name=" ".join(f"dataset.option_{i}=value" for i in range(9)))
    text = printed(comparison.print_runs, [long, *RUNS], width=120, monkeypatch=monkeypatch)
    assert "best val" in text
    assert all(f"option_{i}" in text for i in range(9))


def test_a_failure_is_told(monkeypatch):
    failed = run(13, status="FAILED")
    failed.tags["nnjit.failure"] = "the loss became nan in epoch 3, batch 1"
    lines = printed(comparison.print_runs, [*RUNS, failed], monkeypatch=monkeypatch).splitlines()
    assert lines[-1] == f"failed   {failed.id[:8]} the loss became nan in epoch 3, batch 1"
    assert "FAILED" in next(line for line in lines[:-1] if failed.id[:8] in line)


def test_groups(monkeypatch):
    runs = [*RUNS, run(14, "gru", 3, 0.1, status="KILLED")]
    text = printed(comparison.print_groups, runs, ["model"], monkeypatch=monkeypatch)
    assert "1 run did not finish" in text
    assert "By their intervals, mean accuracies on val are not told from the baseline: gru." in text
    lines = [line for line in text.splitlines() if not line.startswith("By ")]
    rows = [line.split() for line in lines if " val " in line]
    assert [row[0] for row in rows] == ["ff", "gru", "rnn"]
    # Mean 0.75, sd 0.0707, t = 12.706 with one degree of freedom: 0.75 ± 0.635, cut at 1.
    assert rows[1][1:10] == ["2", "val", "0.750", "±", "0.071", "0.115", "to", "1.000", "0.750"]
    rows = comparison.group_rows(runs, ["model", "trainer.epochs"])
    assert [rows[0][key] for key in ("model", "trainer.epochs", "runs")] == ["ff", "11", 1]
    assert rows[0]["final/val_accuracy_mean"] == 0.9
    assert rows[0]["final/test_accuracy_mean"] is None


def test_groups_of_nothing_finished():
    with pytest.raises(ConfigError, match="none of the 1 run is finished"):
        comparison.group_rows([run(1, status="FAILED")], ["model"])


def test_exports_keep_every_digit():
    rows = [run_row(r, ["trainer.epochs"]) for r in (run(1, accuracy=1 / 3), run(2, x=math.nan))]
    file = io.StringIO()
    compare._csv(rows, file)
    (first, _) = csv.DictReader(io.StringIO(file.getvalue()))
    assert float(first["final/val_accuracy"]) == 1 / 3
    assert first["trainer.epochs"] == "1"
    file = io.StringIO()
    compare._json([*rows, {"a": math.nan}], file)
    loaded = json.loads(file.getvalue())
    assert loaded[0]["final/val_accuracy"] == 1 / 3
    assert loaded[0]["started"] == "2026-01-02T00:00:01+00:00"
    assert loaded[2] == {"a": None}


def history(*losses):
    def epoch(number, loss):
        return Epoch(
            number, {}, {"val": Evaluation({"loss": loss, "accuracy": 0.5}, [], None, None)}, 0
        )

    found = History("val/loss")
    for i, loss in enumerate(losses):
        found.add(epoch(i, loss))
    return found


def test_first_difference():
    recorded = {"val/loss": {0: 0.5, 1: 0.25}, "val/accuracy": {0: 0.5, 1: 0.5}}
    assert reproduce.first_difference(recorded, history(0.5, 0.25)) == ""
    close = math.nextafter(0.25, 1)
    told = reproduce.first_difference(recorded, history(0.5, close))
    assert told == f"in epoch 1, val/loss: 0.25 then, {close!r} now"
    assert "number of epochs: 2 then, 1 now" in reproduce.first_difference(recorded, history(0.5))
    told = reproduce.first_difference(recorded, history(0.5, 0.25, 0.2))
    assert "epoch 2, val/loss: not on record" in told


def test_metrics_digest_changes_with_the_last_bit():
    same, other = history(0.5, 0.25), history(0.5, math.nextafter(0.25, 1))
    assert metrics_digest(same) == metrics_digest(history(0.5, 0.25))
    assert metrics_digest(same) != metrics_digest(other)
    assert metrics_digest(same) != metrics_digest(history(0.25, 0.5))
    assert len(metrics_digest(same)) == 16


def test_metrics_digest_of_a_repeated_run():
    first, second = (
        toy.trainer(epochs=3).fit(toy.model(2), toy.data(2, (50, 20, 20))) for _ in range(2)
    )
    assert metrics_digest(first) == metrics_digest(second)


def test_changes():
    then = {"version.numba": "0.67", "cpu": "a", "threads": "2", "version.gone": "1"}
    now = {"version.numba": "0.68", "cpu": "a", "threads": "2"}
    assert reproduce.changes(then, now) == [
        "changed  version.numba: 0.67 then, 0.68 now",
        "changed  version.gone: 1 then, unknown now",
    ]
    assert reproduce.changes(now, now)[0].startswith("same ")
    dirty = {"mlflow.source.git.commit": "abc+"}
    assert "not committed" in reproduce.changes(dirty, dirty)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "run=b"], "two runs, a and b"),
        (["record=yes"], "record=yes must be true or false"),
        (["trainer.epochs=3"], "trainer.epochs does not exist: did you mean trainer.threads"),
    ],
)
def test_reproduce_refuses(arguments, message):
    with pytest.raises(ConfigError, match=message):
        reproduce.parse(arguments)


RECORDED = {"dataset": {}, "model": {}, "trainer": {"threads": None}, "tracking": {}, "seed": 1}


def test_a_store_does_not_choose_whom_to_trust():
    recorded = {**RECORDED, "trusted": ["os"]}
    with pytest.raises(ConfigError, match=r"add trusted=\[os\] if you trust it"):
        reproduce.configuration(recorded, {"trusted": "numpy"})
    assert reproduce.configuration(recorded, {"trusted": "[numpy,os]"}).trusted == ["numpy", "os"]


def test_places_may_be_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorded = {**RECORDED, "dataset": {"root": "music", "cache_dir": "runs/cache"}}
    options = {"dataset.root": "here", "trainer.threads": "2"}
    cfg = reproduce.configuration(recorded, options, "/usr")
    assert (cfg.dataset.root, cfg.trainer.threads) == (str(tmp_path / "here"), 2)
    assert cfg.dataset.cache_dir == "/usr/runs/cache"
    assert reproduce.configuration(recorded, {}, "/no/where").dataset.root == "music"


def test_a_saved_view_of_many_runs_fits_in_a_tag():
    tag, value = view_tag("Mine & yours", [uuid4().hex for _ in range(MOST_IN_VIEW)])
    assert len(value) <= 5000  # MLflow refuses longer ones
    view = json.loads(value)
    marked, packed = view["state"].split(";")
    assert marked == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert view["name"] == "Mine & yours"
    assert state["searchFilter"].count(", ") == MOST_IN_VIEW - 1
    key = tag.removeprefix(_TAG)
    assert view_page("http://x", "1", "Mine & yours").endswith(f"viewStateShareKey={key}")


def test_addresses_are_quoted():
    page = compare_page("http://x", ["1"], ["a", "b"])
    assert "runs=%5B%22a%22%2C%20%22b%22%5D&experiments=%5B%221%22%5D" in page


def test_ports():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port} is taken"):
            ui.choose_port("127.0.0.1", str(port))
    assert ui.choose_port("127.0.0.1", str(port)) == port
    for wrong in ("0", "x", "70000"):
        with pytest.raises(ConfigError, match=f"port={wrong} is no port"):
            ui.choose_port("127.0.0.1", wrong)
    with pytest.raises(ConfigError, match="host=no such host"):
        ui.choose_port("no such host", None)


def test_the_next_free_port(monkeypatch):
    monkeypatch.setattr(ui, "_is_free", lambda host, port: port > 5002)
    assert ui.choose_port("127.0.0.1", None) == 5003


def test_options_need_no_store():
    assert Options("sqlite:///x").limit is None


@pytest.mark.parametrize("name", ["gru [/v2]", "[bold] :smile: #3", "[/]", "a [link=x]b"])
def test_names_are_printed_as_they_are(name, monkeypatch):
    runs = [replace(RUNS[0], name=name, status="FAILED"), RUNS[1]]
    runs[0].tags["nnjit.failure"] = f"no class {name}"
    text = printed(comparison.print_runs, runs, monkeypatch=monkeypatch)
    assert text.count(name) == 2
    del runs[0].tags["nnjit.failure"]


def test_escape_sequences_of_a_store_do_not_reach_the_terminal(monkeypatch):
    runs = [replace(RUNS[0], name="a\x1b[2Jb\x9b1m")]
    text = printed(comparison.print_runs, runs, monkeypatch=monkeypatch)
    assert "a\\x1b[2Jb\\x9b1m" in text
    assert not set(text) & {"\x1b", "\x9b"}


@pytest.mark.parametrize("width", [28, 32, 40, 60, 80, 200])
def test_no_number_is_cut_in_a_narrow_terminal(width, monkeypatch):
    text = printed(comparison.print_runs, RUNS, width=width, monkeypatch=monkeypatch)
    assert "…" not in text
    for value in ("0.700", "0.600", "0.900", "0.800"):
        assert value in text
    groups = printed(comparison.print_groups, RUNS, ["model"], width=width, monkeypatch=monkeypatch)
    assert "…" not in groups
    assert max(map(len, groups.splitlines()[2:])) <= width or width < 32


def test_of_many_runs_the_first_are_shown_and_the_others_told(monkeypatch):
    many = [run(i) for i in range(1, 131)]
    text = printed(comparison.print_runs, many, monkeypatch=monkeypatch)
    assert "130 runs, the first 100" in text
    assert "and 30 more: limit=130 shows all" in text
    assert text.count(" -  ") or len(text.splitlines()) < 120
    text = printed(comparison.print_runs, many, (), 130, monkeypatch=monkeypatch)
    assert "more:" not in text
