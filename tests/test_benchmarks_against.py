"""``python -m benchmarks --against REV``: what it compares, and what it prints."""

import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import against
from benchmarks.task import Step


def _repository(folder: Path) -> Path:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    (folder / "a.txt").write_text("before")
    for arguments in (["init", "-q"], ["add", "a.txt"], ["commit", "-q", "-m", "before"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    return folder


def test_another_commit_lies_in_a_folder_of_its_own_for_a_while(tmp_path: Path) -> None:
    root = _repository(tmp_path)
    (root / "a.txt").write_text("now")
    with against.worktree("HEAD", root) as there:
        assert (there / "a.txt").read_text() == "before"
    assert not there.exists()
    assert (root / "a.txt").read_text() == "now"


def test_an_unknown_commit_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match=r"--against=nowhere: .*nowhere"),
        against.worktree("nowhere", _repository(tmp_path)),
    ):
        pass


def test_both_sides_are_timed_in_processes_of_their_own() -> None:
    step = Step("rnn", 1, 16, True, False, n_steps=2)
    (row,) = against.compare(against.ROOT, against.ROOT, [step], budget=0.01, rounds=1)
    assert row["task"] == step.name
    assert row["here"] > 0
    assert row["ratio"] == row["there"] / row["here"]


def test_a_folder_without_nnjit_is_no_commit_of_it(tmp_path: Path) -> None:
    with (
        closing(against.Worker(tmp_path)) as worker,
        pytest.raises(RuntimeError, match="ended"),
    ):
        worker.seconds(Step("rnn", 1, 16, True, False, n_steps=2), 0.01)


def test_summary_tells_the_mean_of_ratios_and_the_lowest() -> None:
    rows = [
        {"task": "a", "here": 1.0, "there": 2.0, "ratio": 2.0},
        {"task": "b", "here": 2.0, "there": 1.0, "ratio": 0.5},
    ]
    assert against.summary(rows).endswith("geometric mean 1.000, lowest 0.500 (b)")
