"""What accuracies are worth, in words."""

import io
from math import nan

import pytest
import toy

from nnjit.reporting import verdict
from nnjit.reporting.terminal import PlainConsole, verdict_table


def judged(low, high, name="test", baseline=0.5):
    return verdict.Accuracy(name, (low + high) / 2, low, high, baseline, 64, 2)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.55, 0.77), "Better than a guess only if the 64 clips of 2 tracks are independent: "),
        ((0.50, 0.77), "Not told from a guess: the interval of the test accuracy holds the "),
        ((0.20, 0.50), "Not told from a guess: the interval of the test accuracy holds the "),
        ((0.20, 0.45), "Worse than a guess only if the 64 clips of 2 tracks are independent: "),
    ],
)
def test_the_sentence_is_about_the_last_set(interval, expected):
    rows = [judged(0.9, 1.0, "train"), judged(*interval)]
    assert verdict.sentence(rows).startswith(expected)
    assert verdict.sentence(rows) in verdict.markdown(rows)
    block = "```\na recipe\n```"
    assert verdict.without(f"{verdict.markdown(rows)}\n\n{block}") == block
    assert verdict.without(block) == block
    assert "| train | 0.950 | 0.900 to 1.000 | 0.500 | 64 | 2 |" in verdict.markdown(rows)


def test_models_beside_each_other():
    means = [("a", 0.6, 0.7, 0.5), ("b", 0.4, 0.6, 0.5), ("one seed", nan, nan, 0.5)]
    assert verdict.comparison("val", means) == (
        "By their intervals, mean accuracies on val are above the baseline: a; not told from the "
        "baseline: b."
    )
    assert verdict.comparison("val", means[2:]) == ""
    many = [(str(i), 0.1, 0.2, 0.5) for i in range(9)]
    assert verdict.comparison("val", many).endswith("below the baseline: 9 of them.")


def test_the_accuracies_of_a_run_are_those_of_its_last_epoch():
    data = toy.data()
    history = toy.trainer(epochs=2).fit(toy.model(), data, [])
    rows = verdict.accuracies(history, data)
    assert [row.name for row in rows] == ["train", "val", "test"]
    for row in rows:
        assert row.value == history.final.sets[row.name].values["accuracy"]
        assert row.low <= row.value <= row.high
        assert (row.baseline, row.n_clips) == (0.5, 50 if row.name == "train" else 20)


def test_the_table_has_room_in_80_columns():
    file = io.StringIO()
    console = PlainConsole(file=file, width=80)
    console.print(verdict_table([judged(0.55, 0.77)]))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("0.550 to 0.770" in line and line.rstrip().endswith("2") for line in lines)
