"""Recordings taken whole: clips of unequal length from the data set to the prediction."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit import GRU, Adam, Callback, Dense, Flatten, Ragged, Sequential, Trainer
from nnjit.classifier import Classifier
from nnjit.datasets import Dataset, Encoding, Folder, Karplus, encode_file
from nnjit.datasets.audio import encode_signal
from nnjit.datasets.base import Recording
from nnjit.errors import ConfigError, DataError, ShapeError, SkippedFileWarning
from nnjit.layers import Codes, Signal
from nnjit.pyfunc import PyfuncModel
from nnjit.reporting import figures
from nnjit.storage.files import weights_digest
from nnjit.training.checkpoint import Checkpoint

RATE = 1000
drawn = settings(
    deadline=None, derandomize=True, max_examples=10, suppress_health_check=list(HealthCheck)
)


class Memory(Dataset):
    """Recordings of given lengths, in memory; a class is louder at its end."""

    name = "memory"
    classes = ("even", "odd")

    def __init__(self, lengths, **options):
        options = {"n_clips": None, "duration": None, "rate": None} | options
        super().__init__(**{"split": "clip", "sizes": (1, 1, 0), **options})
        self.lengths = lengths

    def sources(self):
        return [
            Recording(f"{i}", i % 2, partial(self.sound, i, n)) for i, n in enumerate(self.lengths)
        ]

    @staticmethod
    def sound(i, n):
        return np.random.default_rng([i, n]).normal(size=n) * np.linspace(1, 1 + i % 2, n), RATE


@pytest.fixture
def root(write, tmp_path):
    """Eight recordings of two classes, each of another length and two channels."""
    rng = np.random.default_rng(0)
    for i in range(8):
        signal = rng.normal(0.1 * (i % 2), 0.1 + 0.05 * (i % 2), (300 + 70 * i, 2))
        write(f"root/{'ab'[i % 2]}/{i}.wav", signal, rate=RATE, subtype="FLOAT")
    return tmp_path / "root"


def load(root, **options):
    options = {"n_clips": None, "rate": RATE, "duration": None, "sizes": (2, 1, 1)} | options
    return Folder(root, **{"cache_dir": None} | options).load()


def network(data):
    return Sequential([GRU(3), Dense(2, "softmax")]).build(data.encoding.inputs, seed=0)


@drawn
@given(lengths=st.lists(st.integers(12, 90), min_size=4, max_size=20))
def test_each_recording_is_one_clip_of_its_own_length(lengths):
    data = Memory(lengths).load()
    assert data.encoding.inputs == Codes(None, 16)
    assert sum(map(len, data.sets().values())) == len(lengths)
    for clips in data.sets().values():
        for file, codes in zip(clips.files, clips.codes, strict=True):
            n = lengths[int(file)]
            as_long = Encoding(rate=RATE, duration=n / RATE)
            alone = encode_signal(*Memory.sound(int(file), n), as_long).codes[0]
            np.testing.assert_array_equal(codes, alone)
    assert f"{min(lengths)} to {max(lengths)} steps" in data.describe()


@drawn
@given(lengths=st.lists(st.integers(12, 90), min_size=8, max_size=40))
def test_a_set_is_evaluated_as_its_clips_are_alone(lengths):
    data = Memory(lengths, encoding="raw", frame=3, hop=2, normalise="training").load()
    model, trainer = network(data), Trainer(Adam(), batch_size=2, threads=1)
    task = trainer.prepare(model, data)
    x, labels = task.sets["train"]
    whole = trainer.evaluate(model, x, labels)
    one = [trainer.evaluate(model, x[n : n + 1], labels[n : n + 1]) for n in range(len(x))]
    p = np.concatenate([e.probabilities for e in one])
    np.testing.assert_array_equal(whole.probabilities, p)
    np.testing.assert_array_equal(whole.confusion, sum(e.confusion for e in one))
    np.testing.assert_allclose(whole.values["loss"], np.mean([e.values["loss"] for e in one]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoding": "raw", "normalise": "training", "frame": 4, "hop": 3, "channels": None},
        {"encoding": "log_mel", "normalise": "training", "frame": 64, "hop": 20, "n_mels": 8},
    ],
    ids=["symbols", "samples", "mel bands"],
)
def test_cache_and_prediction_give_the_same_bits(root, tmp_path, options):
    data = load(root, **options)
    cached = [load(root, cache_dir=tmp_path / "cache", **options) for _ in range(2)]
    assert data.digest == cached[0].digest == cached[1].digest
    classifier = Classifier.of(network(data), data)
    together = classifier.predict(data.train.codes).probabilities
    for file, codes, p in zip(data.train.files, data.train.codes, together, strict=True):
        found, offsets = encode_file(root / file, data.encoding)
        np.testing.assert_array_equal(found[0], codes)
        assert offsets.tolist() == [0]
        np.testing.assert_array_equal(classifier.predict_file(root / file).probabilities[0], p)


def test_statistics_are_those_of_all_steps_of_the_training_set(root):
    data = load(root, encoding="raw", normalise="training", channels=2)
    assert data.encoding.inputs == Signal(None, 2)
    np.testing.assert_allclose(data.train.codes.values.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(data.train.codes.values.std(axis=0), 1, atol=1e-4)
    assert np.abs(data.val.codes.values.std(axis=0) - 1).max() > 1e-4


def test_digests_know_where_a_clip_ends(root):
    data = load(root)
    lengths = data.train.codes.lengths.copy()
    lengths[:2] += (1, -1)
    other = replace(data.train, codes=Ragged(data.train.codes.values, lengths))
    assert replace(data, train=other).digest != data.digest


def test_a_recording_of_less_than_a_frame_is_left_out(root, write):
    write("root/a/short.wav", np.random.default_rng(0).normal(size=9) / 9, rate=RATE)
    with pytest.warns(SkippedFileWarning, match=r"a/short\.wav has 9 sample\(s\) at 1000 Hz, less"):
        data = load(root, encoding="raw", frame=10)
    with pytest.raises(DataError, match="the model reads one or more"):
        encode_file(root / "a" / "short.wav", data.encoding)


def test_what_needs_one_length_says_so(root):
    with pytest.raises(ConfigError, match=r"dataset\.duration=null leaves karplus endless"):
        Karplus(duration=None)
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    with pytest.raises(ShapeError, match=r"flatten needs clips of one length.*last state"):
        Trainer(Adam(), batch_size=1).fit(model, load(root))


def test_a_run_goes_on_inside_an_epoch_to_the_same_bits(root, tmp_path):
    class Stop(Callback):
        def on_batch_end(self, progress):
            if (progress.position.epoch, progress.position.batch) == (1, 2):
                raise KeyboardInterrupt

    data, path = load(root, sizes=(2, 1, 0)), tmp_path / "checkpoint.pkl"

    def fit(callbacks=(), resume=None, threads=1):
        model = network(data)
        trainer = Trainer(Adam(0.01), epochs=3, batch_size=1, threads=threads)
        trainer.fit(model, data, callbacks, resume)
        return weights_digest(model)

    with pytest.raises(KeyboardInterrupt):
        fit([Checkpoint(path, every=3600), Stop()])
    state, _ = Checkpoint.read(path)
    assert fit(resume=state, threads=2) == fit()


def test_a_model_file_takes_clips_of_any_length(root, tmp_path):
    data = load(root)
    classifier = Classifier.of(network(data), data)
    classifier.save(tmp_path / "model.pkl")
    again = Classifier.load(tmp_path / "model.pkl")
    assert again.encoding == data.encoding
    assert again.encoding.duration is None
    clips = list(data.train.codes)
    expected = classifier.predict(data.train.codes).probabilities
    np.testing.assert_array_equal(again.predict(clips).probabilities, expected)
    objects = np.empty(len(clips), object)
    objects[:] = clips
    for given_clips in (clips, objects):
        table = PyfuncModel(again).predict(given_clips)
        np.testing.assert_array_equal(table[f"p_{data.classes[1]}"], expected[:, 1])


def test_clips_of_any_length_are_drawn(root):
    data = load(root)
    drawn_clips = figures.clips(data.train, data, n_steps=310)
    lengths = [len(axis.lines[0].get_xdata()) for axis in drawn_clips.axes if axis.lines]
    assert sorted(lengths) == sorted(min(310, n) for n in data.train.codes.lengths)
