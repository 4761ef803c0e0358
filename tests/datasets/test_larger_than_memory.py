"""Sets that are too large for memory: clips stay in files, and every bit is what it would be."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nnjit import GRU, Dense, Sequential, Trainer
from nnjit.classifier import Classifier
from nnjit.datasets import Folder, labelled
from nnjit.datasets.raw import statistics
from nnjit.lazy import LazyClips
from nnjit.optimizers import SGD
from nnjit.storage.files import weights_digest
from nnjit.tracking.predictions import table_of_predictions
from nnjit.training.run import Trained

RATE, STEPS, PER_FILE = 8000, 4000, 30


@pytest.fixture
def music(tmp_path):
    """Return a function that makes a folder of so many recordings of 30 clips in each class."""

    def make(n):
        for label, name in enumerate("ab"):
            folder = tmp_path / str(n) / name
            folder.mkdir(parents=True)
            for i in range(n):
                rng = np.random.default_rng([n, label, i])
                samples = rng.normal(0.1, 0.05 + 0.1 * label, (PER_FILE * STEPS, 2))
                soundfile.write(folder / f"{i}.wav", samples.clip(-1, 1), RATE)
        return tmp_path / str(n)

    return make


@pytest.fixture
def nothing_in_memory(monkeypatch):
    monkeypatch.setattr(labelled, "IN_MEMORY", 0)
    monkeypatch.setattr("nnjit.lazy._AT_ONCE", 100_000)


def folder(root, **options):
    same = {"rate": RATE, "duration": STEPS / RATE, "n_clips": None, "sizes": (1, 1, 1)}
    return Folder(root, cache_dir=root.parent / "cache", **same | options)


def trained(data, epochs=1):
    model = Sequential([GRU(2), Dense(2, "softmax")])
    trainer = Trainer(SGD(0.1), epochs=epochs, batch_size=16, threads=1)
    history = trainer.fit(model, data)
    return model, history


OPTIONS = [
    {},
    {"n_clips": 100, "split": "clip"},
    {"encoding": "raw"},
    {"encoding": "raw", "channels": 2, "frame": 10, "normalise": "training"},
    {"encoding": "raw", "normalise": "training", "n_clips": 150},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_bit_is_that_of_clips_in_memory(music, monkeypatch, options):
    source = folder(music(3), **options)
    data = [source.load(seed=3)]
    monkeypatch.setattr(labelled, "IN_MEMORY", 0)
    monkeypatch.setattr("nnjit.lazy._AT_ONCE", 50_000)
    data.append(source.load(seed=3))
    assert isinstance(data[0].train.codes, np.ndarray)
    assert isinstance(data[1].train.codes, LazyClips)
    assert data[0].describe() == data[1].describe()
    assert data[0].encoding == data[1].encoding
    for name, clips in data[0].sets().items():
        other = data[1].sets()[name]
        assert np.array_equal(clips.codes, other.codes)
        assert np.asarray(other.codes).dtype == clips.codes.dtype
        assert clips.ids == other.ids
        assert clips.tracks == other.tracks
        assert np.array_equal(clips.labels, other.labels)
    (model, history), (lazy, other) = (trained(splits, epochs=2) for splits in data)
    assert weights_digest(model) == weights_digest(lazy)
    assert history.last.flat() == other.last.flat()
    tables = [
        table_of_predictions(Trained(h, splits, Classifier.of(m, splits), Path()))
        for splits, m, h in ((data[0], model, history), (data[1], lazy, other))
    ]
    assert tables[0] == tables[1]


def peak(work, root):
    tracemalloc.start()
    try:
        work(root)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_clips(music, nothing_in_memory):
    def prepared(root):
        return folder(root, sizes=(1, 1, 0)).load()

    def start(root):
        data = prepared(root)
        assert data.digest
        trained(data)

    start(music(9))  # what is imported and compiled on the way counts for neither
    roots = [music(10), music(40)]  # each set has more clips than are evaluated at once
    added = 2 * 30 * PER_FILE * STEPS
    for work in (prepared, start):  # the first start, and a later one that trains
        few, many = (peak(work, root) for root in roots)
        assert many - few < added / 4


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_statistics_are_the_bits_of_numpy(channels, n, monkeypatch):
    monkeypatch.setattr("nnjit.lazy._AT_ONCE", 100_000)
    rng = np.random.default_rng(n)
    signals = rng.normal(0.3, 2, (n, 7000, channels)).astype(np.float32)
    flat = signals.reshape(-1, channels)
    mean = flat.mean(axis=0, dtype=np.float64)
    squares = np.zeros(channels)
    for at in range(0, len(flat), 1 << 18):
        squares += np.square(flat[at : at + (1 << 18)] - mean).sum(axis=0)
    expected = tuple(mean.tolist()), tuple(np.sqrt(squares / len(flat)).tolist())
    assert statistics(signals, channels) == expected
    parts = LazyClips(np.array_split(signals, min(n, 3)))
    assert statistics(parts, channels) == expected
