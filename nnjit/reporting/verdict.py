"""Compares accuracies with the baseline: a table with intervals, and a sentence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from ..datasets import DataSplits
from ..datasets.inputs import RECORDINGS, Words
from ..runtime.text import count, markdown_table
from ..training.history import History
from ..training.metrics import majority_baseline, wilson_interval

_MOST_NAMES = 6  # in a sentence; if there are more, it gives their number


@final
@dataclass(frozen=True)
class Accuracy:
    """The final accuracy of a set, with its interval and the baseline.

    ``low`` and ``high`` are Wilson's interval, which assumes independent clips; ``baseline`` is the
    accuracy of always predicting the most frequent class.
    """

    name: str
    value: float
    low: float
    high: float
    baseline: float
    n_clips: int
    n_tracks: int
    words: Words = RECORDINGS

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of its cells."""
        counted = (f"{self.words.clip}s", f"{self.words.track}s")
        return ("set", "accuracy", "95 % interval", "baseline", *counted)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of its row in a table, one for each title."""
        interval = f"{self.low:.3f} to {self.high:.3f}"
        counts = (str(self.n_clips), str(self.n_tracks))
        return (self.name, f"{self.value:.3f}", interval, f"{self.baseline:.3f}", *counts)


def accuracies(history: History, data: DataSplits) -> list[Accuracy]:
    """Return the final accuracy of each set, in their order: train, val, test."""
    rows, words = [], data.encoding.words
    for name, clips in data.sets().items():
        value = history.final.sets[name].values["accuracy"]
        low, high = wilson_interval(value, len(clips))
        baseline, n_tracks = majority_baseline(clips.labels), len(set(clips.tracks))
        rows.append(Accuracy(name, value, low, high, baseline, len(clips), n_tracks, words))
    return rows


def sentence(rows: Sequence[Accuracy]) -> str:
    """Return a sentence on the last set, which has the least influence on training."""
    last = rows[-1]
    words = last.words
    counts = f"{count(last.n_clips, words.clip)} of {count(last.n_tracks, words.track)}"
    interval = f"interval of the {last.name} accuracy"
    if last.low > last.baseline:
        return (
            f"Better than a guess only if the {counts} are independent: the {interval} lies above "
            "the baseline."
        )
    if last.high < last.baseline:
        return (
            f"Worse than a guess only if the {counts} are independent: the {interval} lies below "
            "the baseline."
        )
    return (
        f"Not told from a guess: the {interval} holds the baseline, even if its {counts} are "
        "independent."
    )


def comparison(name: str, means: Iterable[tuple[str, float, float, float]]) -> str:
    """Return a sentence that compares models on one set with the baseline, or "".

    Parameters
    ----------
    name
        The set.
    means
        For each model its label, low and high of its interval, and the baseline. A model whose
        interval is NaN is left out.
    """
    kinds: dict[str, list[str]] = {"above": [], "not told from": [], "below": []}
    for label, low, high, baseline in means:
        if low == low:  # not NaN: there are several seeds
            kind = "above" if low > baseline else "below" if high < baseline else "not told from"
            kinds[kind].append(label)
    phrases = [f"{kind} the baseline: {_some(names)}" for kind, names in kinds.items() if names]
    if not phrases:
        return ""
    return f"By their intervals, mean accuracies on {name} are {'; '.join(phrases)}."


def markdown(rows: Sequence[Accuracy]) -> str:
    """Return the table and its sentence in Markdown."""
    return f"{markdown_table(rows[0].titles, (row.cells for row in rows))}\n\n{sentence(rows)}"


def without(description: str) -> str:
    """Return the description of a recorded run without the part from `markdown`.

    The part after it begins with a code block.
    """
    return description[max(description.find("```"), 0) :]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} of them"
