import io
import math

import pytest
import toy

from nnjit.reporting import display as display_module
from nnjit.reporting import terminal
from nnjit.reporting.terminal import PlainConsole
from nnjit.training.callbacks import Progress
from nnjit.training.history import Epoch, Evaluation, History

SHOW_CURSOR, HIDE_CURSOR, CLEAR_LINE = "\x1b[?25h", "\x1b[?25l", "\x1b[2K"


def consoles(is_terminal, width=80):
    """Return a console and what it writes to."""
    file = io.StringIO()
    return PlainConsole(file=file, force_terminal=is_terminal, width=width), file


def history_of(n, sets=("train", "val", "test"), undefined=(), rates=None):
    """Return a history of n epochs whose best is epoch n // 2."""
    history = History(f"{sets[-1]}/accuracy")
    for epoch in range(n):
        accuracy = 0.9 if epoch == n // 2 else 0.5 + epoch / (10 * n)
        values = {"accuracy": accuracy, "recall": 0.25, "precision": 0.125, "loss": 1 / (epoch + 1)}
        evaluations = {name: Evaluation(values, list(undefined), None, None) for name in sets}
        history.add(Epoch(epoch, rates or {"gru": 0.1, "dense": 0.1}, evaluations, 1.0))
    return history


def rendered(history, name="a run", width=200):
    console, file = consoles(False, width)
    console.print(terminal.epoch_table(history, name, width))
    return file.getvalue()


def train(out, **options):
    display = display_module.Display(out)
    toy.trainer(epochs=3, **options).fit(toy.model(), toy.data(), [display])


def test_plain_lines_where_there_is_no_terminal():
    out, file = consoles(False, 200)
    train(out)
    lines = file.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "epoch 0/2",
        "epoch 1/2",
        "epoch 2/2",
    ]
    for line in lines:
        assert "train accuracy 0." in line
        assert "val accuracy 0." in line
        assert "test accuracy 0." in line
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()


def test_live_line_on_a_terminal(monkeypatch):
    monkeypatch.setattr(display_module, "_REFRESH", 0.0)
    out, file = consoles(True)
    train(out)
    text = file.getvalue()
    for epoch in (0, 1, 2):
        for batch in (0, 1, 2):
            assert f"epoch {epoch}/2  batch {batch}/2  accuracy " in text
    assert " gone, ? left" in text
    assert "0.00 s left" in text
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1
    assert text.rindex(CLEAR_LINE) > text.rindex("epoch 2/2")


def test_live_line_is_not_redrawn_for_every_batch(monkeypatch):
    monkeypatch.setattr(display_module, "_REFRESH", 1e9)
    out, file = consoles(True)
    display = display_module.Display(out)
    display._shown = 1e12
    toy.trainer().fit(toy.model(), toy.data(), [display])
    assert "batch" not in file.getvalue()


def test_a_job_of_a_sweep_has_its_lines_in_a_file_and_its_live_line_on_the_terminal(monkeypatch):
    monkeypatch.setattr(display_module, "_REFRESH", 0.0)
    (out, file), (live, screen) = consoles(False, 200), consoles(True, 120)
    display = display_module.Display(out, live, "[3/9] model=rnn seed=3")
    toy.trainer(epochs=3).fit(toy.model(), toy.data(), [display])
    assert [line[:9] for line in file.getvalue().splitlines()] == [f"epoch {n}/2" for n in range(3)]
    assert "[3/9] model=rnn seed=3  epoch 1/2  batch 0/2  accuracy" in screen.getvalue()
    assert screen.getvalue().count(SHOW_CURSOR) == 1


def test_no_live_line_where_the_other_console_is_no_terminal():
    (out, file), (live, screen) = consoles(False, 200), consoles(False)
    display = display_module.Display(out, live, "[1/2]")
    toy.trainer(epochs=2).fit(toy.model(), toy.data(), [display])
    assert len(file.getvalue().splitlines()) == 2
    assert screen.getvalue() == ""


def test_the_terminal_is_given_back_after_an_error():
    out, file = consoles(True)
    display = display_module.Display(out)
    display.on_train_begin(None)
    display.close()
    display.close()
    assert file.getvalue().count(SHOW_CURSOR) == 1


def test_live_line_tells_where_it_is(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 190.0)
    progress = Progress(None, History("val/loss"), 4, 10, started=5.0)
    progress.epoch, progress._warm = 1, 100.0
    progress.mark_batch(4, 0.51234, 0.875)
    # 90 s for the 14 batches after the first: 25 to go
    assert terminal.live_line(progress) == (
        "epoch 1/3  batch 4/9  accuracy 0.875  loss 0.5123  3:05 gone, 2:41 left"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "?"),
        (0, "0.00 s"),
        (0.424, "0.42 s"),
        (9.994, "9.99 s"),
        (12.3, "12 s"),
        (59.4, "59 s"),
        (59.9, "1:00"),
        (185, "3:05"),
        (3599.9, "1:00:00"),
        (3723, "1:02:03"),
        (100 * 3600, "100:00:00"),
    ],
)
def test_seconds(value, expected):
    assert terminal.seconds(value) == expected


def test_table_shows_every_metric_of_every_set():
    text = rendered(history_of(4), "model=gru seed=3")
    head = text.splitlines()
    assert head[0].strip() == "model=gru seed=3"
    assert "rate  accuracy" in text
    for metric in ("accuracy", "recall", "precision", "loss"):
        assert text.count(metric) == 1
    for name in ("train", "val", "test"):
        assert text.count(name) == 4
    rows = [line.split() for line in head if line.strip().lstrip("*")[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1", "*2", "3"]
    values = [value for value in ("0.500", "0.250", "0.125", "1.0000") for _ in range(3)]
    assert rows[0][1:] == ["1.00e-01", *values]


@pytest.mark.parametrize("sets", [("train",), ("train", "val")])
def test_table_of_fewer_sets(sets):
    text = rendered(history_of(2, sets))
    assert text.count("train") == 4
    assert text.count("val") == 4 * (len(sets) - 1)
    assert "test" not in text


@pytest.mark.parametrize("width", [72, 80, 140])  # where all columns have room
def test_table_is_whole_at_every_width(width):
    text = rendered(history_of(4, rates={"gru": 0.1, "dense": 0.2}), "run", width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("0.125") == 3 * 4
    assert text.count("2.00e-01") == 4
    assert "*2" in text


def test_undefined_metrics_are_marked():
    text = rendered(history_of(1, ("train",), undefined=["precision"]))
    assert text.count("0 (0/0)") == 1
    assert "0.250" in text
    assert "0.125" not in text


@pytest.mark.parametrize("n", [1, 40, 41, 500, 10_001])
def test_long_runs_are_thinned_with_best_and_last_kept(n):
    history = history_of(n)
    rows = [line.split()[0] for line in rendered(history).splitlines() if "1.00e-01" in line]
    assert len(rows) <= 42
    assert f"*{n // 2}" in rows
    assert rows[-1].lstrip("*") == str(n - 1)
    if n <= 40:
        assert len(rows) == n


def test_rates_that_are_the_same_have_one_column():
    same = rendered(history_of(1, rates={"gru": 0.1, "dense": 0.1, "dense_2": 0.1}))
    other = rendered(history_of(1, rates={"gru": 0.1, "dense": 0.2, "dense_2": 0.1}))
    assert (same.count("rate"), other.count("rate")) == (1, 2)
    assert "dense" not in same
    assert "dense_2" not in other


def test_a_name_with_brackets_is_printed_as_it_is():
    assert "dataset.sizes=[2,1,0]" in rendered(history_of(1), "dataset.sizes=[2,1,0]")


def test_console_of_a_pipe_is_wide_and_plain(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    out = terminal.console()
    assert not out.is_terminal
    assert out.width >= 140


@pytest.mark.parametrize("width", [26, 40, 60])
def test_a_narrow_table_leaves_columns_out_and_cuts_no_number(width):
    history = history_of(4, rates={"gru": 0.1, "dense": 0.2})
    text = rendered(history, "run", width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("0.900") == 3


def test_what_does_not_fit_at_all_is_folded():
    text = rendered(history_of(1), "run", 8)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 8


@pytest.mark.parametrize("name", ["[old] songs", "gru [/v2]", ":smile:", "[red]x[/red]", "\\[a]"])
def test_text_of_users_is_no_markup(name):
    out, file = consoles(False, 200)
    out.print(name)
    out.print(terminal.epoch_table(history_of(1), name, 200))
    out.print(terminal.table_of_parts([[{name: name}]], [name], [name], 40))
    assert file.getvalue().count(name) == 4


def test_escape_sequences_are_shown_and_not_obeyed():
    out, file = consoles(True)
    display = display_module.Display(out, title="\x1b[2J")
    display.on_train_begin(None)
    display.on_batch_end(Progress(None, History("val/loss"), 4, 10))
    display.close()
    assert "\x1b[2J" not in file.getvalue()
    assert "\\x1b[2J" in file.getvalue()


def test_no_live_line_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out, file = consoles(True)
    train(out)
    assert [file.getvalue().count(f"epoch {n}/2") for n in range(3)] == [1, 1, 1]
    assert HIDE_CURSOR not in file.getvalue()


@pytest.mark.parametrize("width", [40, 80])
def test_tables_on_a_dumb_terminal_are_whole(width, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    out = PlainConsole(file=file, force_terminal=True)
    assert out.width == width
    out.print(terminal.epoch_table(history_of(4), "run", out.width))
    assert "…" not in file.getvalue()
    assert max(map(len, file.getvalue().splitlines())) <= width


def test_ascii_takes_every_line():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = terminal.PlainConsole(file=file, width=80)
    out.print("0.500 ± 0.100 … C♯")
    out.print(terminal.epoch_table(history_of(2), "naïve", 80))
    file.flush()
    text = file.buffer.getvalue().decode("ascii")
    assert text.startswith("0.500 +- 0.100 ... C\\u266f")
    assert "0.500" in text.splitlines()[-2] or "0.550" in text
