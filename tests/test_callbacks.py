import math

import pytest

from nnjit.training.callbacks import Callback, EarlyStopping, Progress
from nnjit.training.history import Epoch, Evaluation, History


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only stands where it is put."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("time.perf_counter", lambda: Clock.now)
    return Clock


def progress_at(clock, n_epochs=2, n_batches=5):
    return Progress(None, History("val/loss"), n_epochs, n_batches, started=clock.now)


def train(progress, clock, durations):
    """Finish batches that take so long, one after the other; yield how many are done."""
    for n, duration in enumerate(durations):
        clock.now += duration
        progress.epoch, batch = divmod(n, progress.n_batches)
        progress.mark_batch(batch, 0.1, 0.9)
        yield n + 1


def test_time_left_after_a_slow_first_batch(clock):
    progress = progress_at(clock)
    left, gone = [], []
    for _ in train(progress, clock, [100.0] + [2.0] * 9):
        left.append(progress.remaining)
        gone.append(progress.elapsed)
    assert math.isnan(left[0])  # one batch, with compilation in it, tells nothing
    assert left[1:] == pytest.approx([2.0 * n for n in range(8, -1, -1)])
    assert gone == pytest.approx([100 + 2.0 * n for n in range(10)])


def test_time_left_when_the_pace_changes(clock):
    progress = progress_at(clock, n_epochs=1, n_batches=9)
    assert list(train(progress, clock, [5.0, 1.0, 1.0, 4.0]))[-1] == 4
    assert progress.remaining == pytest.approx((1 + 1 + 4) / 3 * 5)


def test_time_left_counts_what_passes_between_batches(clock):
    progress = progress_at(clock, n_epochs=4, n_batches=1)
    for _ in train(progress, clock, [9.0, 1.0]):
        clock.now += 1.0  # evaluation
    assert progress.remaining == pytest.approx(2 * (1 + 1 + 1))


def test_no_time_left_at_the_end(clock):
    progress = progress_at(clock, n_epochs=1, n_batches=3)
    for _ in train(progress, clock, [1.0] * 3):
        pass
    assert progress.remaining == 0


def test_time_is_unknown_before_the_first_batch(clock):
    progress = progress_at(clock)
    clock.now += 7
    assert math.isnan(progress.remaining)
    assert progress.elapsed == pytest.approx(7)


def history_of(losses, monitor="val/loss"):
    history = History(monitor)
    for epoch, loss in enumerate(losses):
        values = {"loss": loss, "accuracy": 1 - loss}
        sets = {"val": Evaluation(values, [], None, None)}
        history.add(Epoch(epoch, {}, sets, 0.0))
    return history


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
def test_best_is_lowest_loss_or_highest_metric(monitor):
    history = history_of([0.5, 0.25, 0.75, 0.25], monitor)
    assert history.best.epoch == 1
    assert history.final.epoch == 3


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([0.5], False),
        ([0.5, 0.6], False),
        ([0.5, 0.6, 0.6], True),
        ([0.5, 0.6, 0.4, 0.5], False),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.4, 0.3], False),
    ],
)
def test_early_stopping_with_a_patience_of_2(losses, stops):
    progress = Progress(None, history_of(losses), 9, 1)
    EarlyStopping(2).on_epoch_end(progress)
    assert progress.stop is stops


def test_early_stopping_does_not_revoke_another_callback():
    progress = Progress(None, history_of([0.5]), 9, 1, stop=True)
    EarlyStopping(2).on_epoch_end(progress)
    assert progress.stop


def test_a_callback_that_hears_nothing():
    progress = Progress(None, history_of([0.5]), 1, 1)
    for name in ("on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end"):
        assert getattr(Callback(), name)(progress) is None
