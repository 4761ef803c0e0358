import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
import toy

from nnjit import SGD, Adam, Sequential, Trainer
from nnjit.callbacks import Callback
from nnjit.errors import DivergedError
from nnjit.layers import GRU, LSTM, RNN, Bptt, Dense, Dropout, Flatten
from nnjit.replicas import Stage, meeting, train_together

STACKS = {
    "gru": lambda: [GRU(3, return_sequences=True), Flatten(), Dropout(0.3)],
    "reset_after": lambda: [GRU(9, reset_after=True)],
    "two": lambda: [RNN(4, return_sequences=True), LSTM(3, return_sequences=True), Flatten()],
    "dense": lambda: [Flatten(), Dense(4, "relu"), Dropout(0.3)],
}


def made(stack, seed, rate=0.1, optimizer=SGD, epochs=3, **options):
    trainer = Trainer(
        optimizer(learning_rate=rate), epochs=epochs, batch_size=16, seed=seed, **options
    )
    return trainer, Sequential([*STACKS[stack](), Dense(2, "softmax")])


def train(stack, seeds, data, callbacks=(), **options):
    pairs = [made(stack, seed, **options) for seed in seeds]
    return [model for _, model in pairs], together(pairs, data, callbacks)


def together(pairs, data, callbacks=()):
    def job(trainer, model):
        trainer.prepare(model, data)
        with meeting(model) as more:
            return trainer.fit(model, data, [*callbacks, *more])

    return train_together([partial(job, *pair) for pair in pairs])


def assert_same(history, model, expected, expected_model):
    assert [e.flat() for e in history.epochs] == [e.flat() for e in expected.epochs]
    for layer, group in expected_model.params.items():
        for name, value in group.items():
            np.testing.assert_array_equal(model.params[layer][name], value, err_msg=name)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("threads", [1, 3])
def test_each_replica_has_the_bits_of_its_own_run(stack, threads):
    data, seeds = toy.data(sizes=(40, 30, 20)), (1, 2, 5, 7, 8)
    options = {"threads": threads, "keep_remainder": True, "restore_best": True}
    models, histories = train(stack, seeds, data, **options)
    for seed, model, history in zip(seeds, models, histories, strict=True):
        trainer, alone = made(stack, seed, **options)
        expected = trainer.fit(alone, data)
        assert_same(history, model, expected, alone)
    finals = {str(history.final.flat()) for history in histories}
    assert len(finals) > 1


@pytest.mark.parametrize("bptt", [Bptt(128), Bptt("off", truncate=7)], ids=str)
def test_with_checkpoints_or_truncated(bptt):
    data = toy.data()
    models, histories = train("gru", (1, 2), data, optimizer=Adam, rate=0.01, bptt=bptt)
    trainer, alone = made("gru", 2, optimizer=Adam, rate=0.01, bptt=bptt)
    assert_same(histories[1], models[1], trainer.fit(alone, data), alone)


def test_a_replica_that_fails_or_stops_early_leaves_the_others():
    data = toy.data()
    pairs = [made("gru", 1), made("gru", 2, rate=3e38), made("gru", 3, patience=1), made("gru", 4)]
    results = together(pairs, data)
    assert isinstance(results[1], DivergedError)
    for i in (0, 2, 3):
        trainer, alone = made("gru", i + 1, patience=1 if i == 2 else None)
        assert_same(results[i], pairs[i][1], trainer.fit(alone, data), alone)


def test_ctrl_c_reaches_all():
    class Pressed(Callback):
        def on_epoch_end(self, progress):
            if progress.epoch == 1 and threading.current_thread() is not threading.main_thread():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)

    data, ended = toy.data(), []

    class Ended(Callback):
        def on_train_end(self, progress):
            ended.append(progress)

    with pytest.raises(KeyboardInterrupt):
        train("gru", (1, 2, 3), data, [Pressed(), Ended()], epochs=10_000)
    assert not ended
    assert not [t for t in threading.enumerate() if t.name.endswith("(run)")]


def test_models_are_alone_again_afterwards():
    data = toy.data()
    models, _ = train("gru", (1, 2), data)
    assert all(layer.company is None for model in models for layer in model.layers[:1])
    models[0].predict(data.test.codes)


def test_layers_meet(monkeypatch):
    tiles = []
    forward = GRU.forward_with
    monkeypatch.setattr(
        GRU, "forward_with", lambda self, p, x, t: tiles.append(len(x)) or forward(self, p, x, t)
    )
    train("gru", range(6), toy.data(), epochs=1)
    assert set(tiles) >= {6}


def test_one_job_at_a_time_has_the_stage():
    class Light(Stage):
        on = None

        def get(self):
            return self.on

        def put(self, held):
            self.on = held

    stage, seen = Light(), []

    def job(i):
        trainer, model = made("gru", i)
        stage.on = i
        time.sleep(0.01)
        trainer.prepare(model, toy.data())
        with meeting(model) as more:
            seen.append(stage.on)
            trainer.fit(model, toy.data(), more)
        time.sleep(0.01)
        return stage.on

    assert train_together([partial(job, i) for i in range(5)], stage) == list(range(5))
    assert set(seen) == {None}
    assert stage.on is None
