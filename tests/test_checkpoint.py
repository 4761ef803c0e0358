import errno
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy

from nnjit.errors import CheckpointError, ConfigError
from nnjit.layers import BatchNormalization, Dense, Flatten
from nnjit.model import Sequential
from nnjit.storage.files import weights_digest
from nnjit.training.callbacks import Callback, EarlyStopping
from nnjit.training.checkpoint import FORMAT, Checkpoint, TrainingState, is_held, run_lock
from nnjit.training.optimizers import SGD, Adam, AdamW, RMSprop
from nnjit.training.schedules import Cosine, Exponential, ReduceLROnPlateau
from nnjit.training.trainer import Trainer

OPTIMIZERS = {
    "sgd": lambda: SGD(0.2),
    "momentum": lambda: SGD(0.1, momentum=0.9, schedule=Exponential(0.1, 2)),
    "adam": lambda: Adam(0.05, clip_norm=0.5),
    "averaged": lambda: SGD(
        0.2, ema_momentum=0.8, layers={"dense_2": {"trainable": False, "learning_rate": 0.3}}
    ),
    "adamw": lambda: AdamW(0.05, schedule=Cosine(4), warmup_epochs=0.7),
    "rmsprop": lambda: RMSprop(
        0.3, momentum=0.5, weight_decay=0.1, schedule=ReduceLROnPlateau(0.5, 1, min_delta=1.0)
    ),
}
OPTIONS = {
    "epochs": 4,
    "threads": 1,
    "seed": 3,
    "drop_last": False,
    "restore_best": True,
    "monitor": "val/loss",
}


def trainer(optimizer="adam", **options):
    return Trainer(OPTIMIZERS[optimizer](), **{**OPTIONS, **options})


def told(model, history):
    """Return all that a run has to show: bits of weights, and of every value of every epoch."""
    epochs = [
        (e.epoch, e.rates, [(n, v.values, v.undefined) for n, v in e.sets.items()])
        for e in history.epochs
    ]
    confusions = [v.confusion.tolist() for e in history.epochs for v in e.sets.values()]
    shown = [v.probabilities.tobytes() for e in history.epochs for v in e.sets.values()]
    return weights_digest(model), epochs, confusions, shown, history.best.epoch, history.restored


def whole(data=None, callbacks=(), **options):
    """Return what an uninterrupted run tells."""
    model = toy.model()
    return told(model, trainer(**options).fit(model, data or toy.data(), callbacks))


def gone_on(state, data=None, callbacks=(), **options):
    """Return what a run tells that goes on from a state."""
    model = toy.model()
    return told(model, trainer(**options).fit(model, data or toy.data(), callbacks, state))


class Listener(Callback):
    """Calls a function at every event, with its name and the progress."""

    def __init__(self, heard):
        self.heard = heard

    def on_batch_end(self, progress):
        self.heard("batch", progress)

    def on_epoch_end(self, progress):
        self.heard("epoch", progress)

    def on_train_end(self, progress):
        self.heard("train", progress)


def states(callbacks=(), **options):
    """Return the state after each event of a run, as a file would hold it."""
    found = []

    def keep(event, progress):
        found.append(pickle.dumps(TrainingState.of(progress).pack()))

    trainer(**options).fit(toy.model(), toy.data(), [*callbacks, Listener(keep)])
    return [TrainingState.unpack(pickle.loads(content)) for content in found]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_from_every_place_the_end_is_the_same(optimizer):
    expected, found = whole(optimizer=optimizer), states(optimizer=optimizer)
    assert len(found) == 4 * 4 + 4 + 1
    rates = [rates["dense_2"] for _, rates, _ in expected[1]]
    assert (len(set(rates)) > 1) == (optimizer in ("momentum", "adamw", "rmsprop"))
    assert {(s.position.epoch, s.position.batch) for s in found} >= {
        (epoch, batch) for epoch in range(4) for batch in (1, 2, 3, 4)
    }
    for state in found:
        assert gone_on(state, optimizer=optimizer) == expected, state.position


def test_averages_are_kept_without_the_best_epoch_too():
    options = {"optimizer": "averaged", "restore_best": False}
    expected = whole(**options)
    for state in states(**options)[-7:]:
        assert gone_on(state, **options) == expected, state.position


def test_a_state_after_the_end_goes_nowhere():
    batches = []
    state = states()[-1]
    listener = Listener(lambda event, progress: batches.append(event))
    assert gone_on(state, callbacks=[listener]) == whole()
    assert batches == ["train"]


def interrupt(event, number):
    """Return a callback that interrupts at an event, as Ctrl-C would."""
    left = [number]

    def heard(name, progress):
        left[0] -= name == event
        if name == event and left[0] < 0:
            raise KeyboardInterrupt

    return Listener(heard)


@pytest.mark.parametrize(
    ("event", "number"), [("batch", 0), ("batch", 6), ("epoch", 0), ("epoch", 2)]
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_ctrl_c_leaves_a_checkpoint(event, number, first, tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.pkl", 1e9)
    callbacks = [interrupt(event, number), checkpoint]
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(toy.model(), toy.data(), callbacks if first else callbacks[::-1])
    state, _ = Checkpoint.read(tmp_path / "c.pkl")
    assert (state.position.epoch, state.position.batch) == (
        number // 4 if event == "batch" else number,
        number % 4 + 1 if event == "batch" else 4,
    )
    assert gone_on(state) == whole()


def test_ctrl_c_while_parameters_change_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    step, calls = Adam.step, []

    def half(self, params, *rest):
        calls.append(1)
        if len(calls) == 7:
            params["dense"]["W"][...] = 0
            raise KeyboardInterrupt
        step(self, params, *rest)

    monkeypatch.setattr(Adam, "step", half)
    checkpoint = Checkpoint(tmp_path / "c.pkl", 1e9)
    keep = Listener(lambda event, p: checkpoint.save(p) if len(calls) == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(toy.model(), toy.data(), [keep, checkpoint])
    monkeypatch.undo()
    state, _ = Checkpoint.read(tmp_path / "c.pkl")
    assert (state.position.epoch, state.position.batch) == (0, 3)
    assert gone_on(state) == whole()


def test_ctrl_c_after_moving_statistics_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    def model():
        return Sequential([Flatten(), Dense(8), BatchNormalization(0.5), Dense(2, "softmax")])

    backward, calls = Sequential.backward, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return backward(self, *arguments)

    first, path = model(), tmp_path / "c.pkl"
    expected = told(first, trainer().fit(first, toy.data()))
    monkeypatch.setattr(Sequential, "backward", interrupted)
    checkpoint = Checkpoint(path, 1e9)
    keep = Listener(lambda event, p: checkpoint.save(p) if len(calls) == 1 else None)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(model(), toy.data(), [keep, checkpoint])
    monkeypatch.undo()
    state, _ = Checkpoint.read(path)
    assert (state.position.epoch, state.position.batch) == (0, 1)
    again = model()
    assert told(again, trainer().fit(again, toy.data(), resume=state)) == expected


def test_patience_is_not_forgotten():
    options = {"epochs": 50, "callbacks": [EarlyStopping(2)], "optimizer": "momentum"}
    expected, found = whole(**options), states(**options)
    assert len(expected[1]) < 50
    for state in found[-6:]:
        assert gone_on(state, **options) == expected


def test_a_callback_that_stops_is_not_forgotten(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, progress):
            progress.stop = progress.epoch == 1

    checkpoint = Checkpoint(tmp_path / "c.pkl", 1e9)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(toy.model(), toy.data(), [Stop(), interrupt("train", 0), checkpoint])
    assert not checkpoint.path.exists()  # training was over
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(toy.model(), toy.data(), [Stop(), interrupt("epoch", 1), checkpoint])
    state, _ = Checkpoint.read(checkpoint.path)
    assert len(gone_on(state, callbacks=[Stop()])[1]) == 2


def test_more_epochs_than_before():
    assert gone_on(states(epochs=2)[-2], epochs=4) == whole(epochs=4)


def test_three_classes_with_undefined_values():
    data, model = toy.data(3, (51, 6, 3)), toy.model(3)
    found = []
    keep = Listener(lambda event, p: found.append(TrainingState.of(p).pack()))
    expected = told(model, trainer("sgd").fit(model, data, [keep]))
    assert any(undefined for _, _, sets in expected[1] for _, _, undefined in sets)
    again = toy.model(3)
    state = TrainingState.unpack(found[9])
    assert told(again, trainer("sgd").fit(again, data, resume=state)) == expected


def test_only_the_best_and_the_last_epoch_keep_probabilities():
    history = trainer(epochs=9, optimizer="momentum").fit(toy.model(), toy.data())
    kept = [e.epoch for e in history.epochs if all(v.probabilities.size for v in e.sets.values())]
    assert kept == sorted({history.best.epoch, 8})
    losses = [e.flat()["val/loss"] for e in history.epochs]
    assert history.best.epoch == np.argmin(losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "seed 3, not 4"),
        ({"optimizer": "sgd"}, "optimizer Adam, not SGD"),
        ({"batch_size": 10}, "number of batches 4, not 5"),
        ({"monitor": "val/recall"}, "monitor val/loss, not val/recall"),
    ],
)
def test_another_run_is_refused(options, message):
    with pytest.raises(CheckpointError, match=message):
        gone_on(states()[3], **options)


def test_another_model_is_refused():
    with pytest.raises(CheckpointError, match="layers"):
        trainer().fit(toy.model(1, "sigmoid"), toy.data(), resume=states()[3])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Return the bytes of a sound checkpoint."""
    path = tmp_path_factory.mktemp("sound") / "c.pkl"
    checkpoint = Checkpoint(path, 1e9, {"name": "a run"})
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(toy.model(), toy.data(), [interrupt("batch", 5), checkpoint])
    assert Checkpoint.read(path)[1] == {"name": "a run"}
    return path.read_bytes()


def refused(path, message=None):
    with pytest.raises(CheckpointError, match=message) as error:
        Checkpoint.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_other_files(tmp_path):
    refused(tmp_path / "c.pkl", "cannot read")
    (tmp_path / "c.pkl").write_bytes(b"something else")
    refused(tmp_path / "c.pkl", "is not a checkpoint file")
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"format": "nnjit model"}, protocol=5))
    refused(tmp_path / "c.pkl", "is not a checkpoint file of nnjit")


def test_another_version(content, tmp_path):
    document = {**pickle.loads(content), "version": 99}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(document, protocol=5))
    refused(tmp_path / "c.pkl", "format version 99, this nnjit reads 1")


def test_truncated_and_changed_bytes(content, tmp_path):
    path, rng = tmp_path / "c.pkl", np.random.default_rng(0)
    for n in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n])
        refused(path)
    for place in rng.integers(60, len(content), 60):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            Checkpoint.read(path)
        except CheckpointError:
            continue
        assert pickle.loads(changed) == pickle.loads(content)  # nothing that has a meaning


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_malicious_file_does_not_run(content, tmp_path):
    document = {**pickle.loads(content), "about": Malicious(tmp_path / "harm")}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(document, protocol=5))
    refused(tmp_path / "c.pkl", "asks for STACK_GLOBAL")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_write_that_breaks_off_leaves_the_old_file(error, content, tmp_path, monkeypatch):
    path = tmp_path / "c.pkl"
    path.write_bytes(content)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        trainer().fit(toy.model(), toy.data(), [Checkpoint(path, 1e-9)])
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["c.pkl"]


@pytest.mark.parametrize("every", [0, -1, "often", float("nan")])
def test_a_time_that_cannot_be(every):
    with pytest.raises(ConfigError, match=f"checkpoint_every={every} must be above 0 seconds"):
        Checkpoint("c.pkl", every)


@pytest.mark.parametrize(("takes", "expected"), [(0.0, 11), (2.0, 4)])
def test_how_often_it_writes(takes, expected, tmp_path, monkeypatch):
    """Every 10 s in a run of 100 s; or so that writing takes a twentieth of it; at the end."""

    class Clock:
        now = 0.0

    def write(*arguments):
        Clock.now += takes
        written.append(Clock.now)

    written = []
    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    monkeypatch.setattr("nnjit.storage.files.write_atomically", write)

    def tick(event, progress):
        Clock.now += 1.0 if event == "batch" else 0.0

    trainer(epochs=25).fit(toy.model(), toy.data(), [Listener(tick), Checkpoint("c.pkl", 10.0)])
    assert len(written) == expected


def test_begin_and_remove(tmp_path):
    checkpoint = Checkpoint(tmp_path / "new" / "c.pkl", about={"a": [1, None, "b"]})
    checkpoint.begin()
    assert Checkpoint.read(checkpoint.path) == (None, {"a": [1, None, "b"]})
    (tmp_path / "new" / ".c.pkl.half").touch()
    (tmp_path / "new" / "model.pkl").touch()
    checkpoint.remove()
    assert os.listdir(tmp_path / "new") == ["model.pkl"]
    checkpoint.remove()


HOLD = """
import pathlib, sys, time
from nnjit.training.checkpoint import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "c.pkl"
    assert not is_held(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert is_held(path)
        began = time.monotonic()
        with (
            pytest.raises(CheckpointError, match="another process is still at work"),
            run_lock(path),
        ):
            pass
        assert time.monotonic() - began < 300
        other.send_signal(signal.SIGKILL)
    assert not is_held(path)
    with run_lock(path):
        assert not path.exists()
    assert os.listdir(tmp_path) == []


def _change(document, place, value):
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("position",), None),
        (("position", "epoch"), 1.0),
        (("position", "epoch"), True),
        (("position", "epoch"), -1),
        (("position", "batch"), "2"),
        (("position", "batch"), 10**9),
        (("position", "seconds"), float("nan")),
        (("position", "seconds"), None),
        (("position", "dropout"), {}),
        (("position", "dropout"), {"bit_generator": "MT19937"}),
        (("position", "dropout", "state"), {"state": -1, "inc": "1"}),
        (("position", "other"), 1),
        (("seed",), "3"),
        (("seed",), -3),
        (("n_batches",), 0),
        (("n_steps",), 2.5),
        (("stop",), 1),
        (("optimizer",), ["Adam"]),
        (("params",), []),
        (("params", "dense"), None),
        (("params", "dense", "W", "shape"), [96, 9]),
        (("params", "dense", "W", "dtype"), "<i8"),
        (("best", "dense"), {}),
        (("memory", "dense.W", "m", "shape"), [8, 96]),
        (("memory", "dense.W", "m", "data"), b""),
        (("memory", "nothing"), {"m": {"dtype": "<f4", "shape": [1], "data": b"1234"}}),
        (("history", "monitor"), "val/nothing"),
        (("history", "monitor"), 5),
        (("history", "seconds"), {"dtype": "<f8", "shape": [2], "data": b"\0" * 16}),
        (("history", "rates", "dense"), {"dtype": "<f8", "shape": [0], "data": b""}),
        (("history", "sets", "val", "confusion", "dtype"), "<f8"),
        (("history", "sets", "val", "confusion", "shape"), [4, 1, 1]),
        (("history", "sets", "val", "values"), {}),
        (("history", "sets", "val", "probabilities"), {"7": {}}),
        (("history", "sets", "val", "probabilities"), {"x": {}}),
        (("history", "sets"), {"val": 3}),
    ],
    ids=lambda v: ".".join(v) if isinstance(v, tuple) else repr(v)[:30],
)
def test_wrong_types_and_shapes_are_told_before_they_are_used(place, value, content, tmp_path):
    document = pickle.loads(content)
    _change(document["state"], place, value)
    FORMAT.write(tmp_path / "c.pkl", {key: document[key] for key in FORMAT.keys})
    refused(tmp_path / "c.pkl", "damaged or altered")


@pytest.mark.parametrize("about", [None, [], "text"])
def test_about_is_a_dict(about, content, tmp_path):
    FORMAT.write(tmp_path / "c.pkl", {"state": None, "about": about})
    refused(tmp_path / "c.pkl", "about of a checkpoint")


@pytest.mark.parametrize("sizes", [(50, 20, 0), (50, 20, 19)])
def test_other_sets_are_refused(sizes):
    with pytest.raises(CheckpointError, match=r"with other sets|of other clips in the set"):
        gone_on(states()[6], toy.data(sizes=sizes))


def test_memory_that_lacks_a_part_is_refused():
    state = states()[3]
    del state.memory["dense.W"]["v"]
    with pytest.raises(ConfigError, match=r"memory of dense\.W is of another model"):
        gone_on(state)
