"""Training clips that are changed a little, with bits that repeat."""

import pickle

import numpy as np
import pytest
import toy
from hydra import compose, initialize_config_dir

from nnjit.augmentation import (
    Augmenter,
    ClipAugmentation,
    Gain,
    Mixup,
    Noise,
    Polarity,
    Shift,
    SpectralTilt,
    TimeMasking,
)
from nnjit.config.build import CONF, build
from nnjit.datasets import Encoding
from nnjit.errors import ConfigError
from nnjit.layers import RNN, Codes, Dense, Dropout, Signal
from nnjit.model import Sequential
from nnjit.ragged import Ragged
from nnjit.storage.files import weights_digest
from nnjit.training.callbacks import Callback
from nnjit.training.checkpoint import TrainingState
from nnjit.training.optimizers import SGD
from nnjit.training.trainer import Trainer

EVERY = {
    "gain": Gain(6),
    "shift": Shift(0.3),
    "noise": Noise(0.1),
    "polarity": Polarity(),
    "spectral_tilt": SpectralTilt(3),
    "time_masking": TimeMasking(0.3, 2),
    "mixup": Mixup(0.4),
}


@pytest.fixture
def clip(rng):
    return rng.normal(size=(60, 2))


def test_gain(clip, rng):
    factors = [Gain(6).change(clip, rng) / clip for _ in range(200)]
    decibels = [20 * np.log10(f[0, 0]) for f in factors]
    assert all(np.ptp(f) < 1e-12 for f in factors)
    assert -6 <= min(decibels) < -5
    assert 5 < max(decibels) <= 6


def test_shift(clip, rng):
    rolls = {k: np.roll(clip, k, axis=0).tobytes() for k in range(-6, 7)}
    found = {Shift(0.1).change(clip, rng).tobytes() for _ in range(300)}
    assert found == set(rolls.values())


def test_noise(clip, rng):
    added = np.array([Noise(0.5).change(clip, rng) - clip for _ in range(300)])
    assert added.std() == pytest.approx(0.5, rel=0.02)
    assert abs(added.mean()) < 0.01


def test_polarity(clip, rng):
    signs = [Polarity(0.25).change(clip, rng)[0, 0] == -clip[0, 0] for _ in range(400)]
    assert 0.15 < np.mean(signs) < 0.35


def test_time_masking(clip, rng):
    lengths = set()
    for _ in range(300):
        found = TimeMasking(0.2).change(clip, rng)
        silent = np.flatnonzero((found == 0).all(axis=1))
        lengths.add(len(silent))
        begin = silent[0] if len(silent) else 0
        np.testing.assert_array_equal(silent, begin + np.arange(len(silent)))
        kept = np.delete(np.arange(60), silent)
        np.testing.assert_array_equal(found[kept], clip[kept])
    assert lengths == set(range(13))


def test_spectral_tilt(clip, rng):
    for _ in range(20):
        found = SpectralTilt(6).change(clip, rng)
        before, after = np.fft.rfft(clip, axis=0), np.fft.rfft(found, axis=0)
        np.testing.assert_allclose(found.mean(axis=0), clip.mean(axis=0), atol=1e-12)
        ratio = 20 * np.log10(np.abs(after[1:-1]) / np.abs(before[1:-1]))
        per_octave = ratio[1] - ratio[0]  # from harmonic 1 to 2
        assert abs(per_octave).max() <= 6
        expected = ratio[0] + per_octave * np.log2(np.arange(1, len(before) - 1))[:, None]
        np.testing.assert_allclose(ratio, expected, atol=1e-9)
        assert np.square(found - found.mean(0)).sum() == pytest.approx(
            np.square(clip - clip.mean(0)).sum()
        )


def test_spectral_tilt_reads_frames_as_one_signal(rng):
    samples = rng.normal(size=(60, 2))
    encoding = Encoding(method="raw", rate=60, duration=1.0, frame=4, hop=None, channels=2)
    framed, plain = SpectralTilt(6), SpectralTilt(6)
    framed.fit(encoding)
    found = framed.change(samples.reshape(15, 8), np.random.default_rng(1))
    expected = plain.change(samples, np.random.default_rng(1))
    np.testing.assert_array_equal(found.reshape(60, 2), expected)
    overlapping = Encoding(method="raw", rate=60, duration=1.0, frame=4, hop=2, channels=2)
    with pytest.raises(ConfigError, match=r"needs frames that do not overlap: set dataset\.hop"):
        framed.fit(overlapping)


def test_mixup(rng):
    x, y = rng.normal(size=(8, 5, 2)), np.eye(8)
    mixed, targets = Mixup(0.4).mix(rng, x, y)
    np.testing.assert_allclose(mixed, np.einsum("nk,ktd->ntd", targets, x))
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    shares = [Mixup(0.4).mix(rng, y)[0].max() for _ in range(50)]
    assert min(shares) < 0.7 < max(shares)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gain(-1), r"augmentation\.gain\.decibels=-1 must be 0 \(off\) or more"),
        (lambda: Gain(float("nan")), r"decibels=nan must be"),
        (lambda: Shift(1.5), r"augmentation\.shift\.share=1.5 must be from 0 \(off\) to 1"),
        (lambda: Noise(-1), r"augmentation\.noise\.stddev=-1 must be"),
        (lambda: Polarity(2), r"augmentation\.polarity\.probability=2 must be"),
        (lambda: SpectralTilt(-1), r"augmentation\.spectral_tilt\.decibels=-1 must be"),
        (lambda: TimeMasking(2), r"augmentation\.time_masking\.share=2 must be"),
        (lambda: TimeMasking(stretches=0), r"stretches=0 must be 1 or more"),
        (lambda: Mixup(-1), r"augmentation\.mixup\.alpha=-1 must be"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# In training.


def signals(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    x = rng.normal(size=(n, 20, 2)) + labels[:, None, None]
    return x.astype(np.float32), labels


def data():
    return {"train": signals(50, 0), "val": signals(20, 1)}


def model():
    layers = [RNN(4, return_sequences=False), Dropout(0.2), Dense(3, "softmax")]
    return Sequential(layers).build(Signal(20, 2), 5)


def fitted(augmentation, sets=None, callbacks=(), resume=None, **options):
    """Return the digest of the weights and the values of a run."""
    trained = model()
    settings = {"epochs": 3, "threads": 1, "drop_last": False, **options}
    trainer = Trainer(SGD(0.1, momentum=0.9), augmentation=augmentation, **settings)
    history = trainer.fit(trained, sets or data(), callbacks, resume)
    return weights_digest(trained), [epoch.flat() for epoch in history.epochs]


def test_what_is_off_changes_no_bit():
    off = {"gain": Gain(0), "mixup": Mixup(0), "noise": None, "shift": Shift(0)}
    assert fitted(off) == fitted(None) == fitted({})
    assert not Augmenter(off)


@pytest.mark.parametrize("name", EVERY)
def test_each_changes_training_and_repeats_its_bits(name):
    one = {name: EVERY[name]}
    assert fitted(one) == fitted(one) != fitted(None)
    assert fitted(one, seed=1)[0] != fitted(one)[0]


def test_only_the_training_set_is_changed_and_its_array_is_not(monkeypatch):
    sets, evaluated = data(), []
    kept = {name: x.copy() for name, (x, _) in sets.items()}
    forward = Sequential.forward_rows

    def spy(self, x, rows, **options):
        if not options.get("training"):
            evaluated.append(x[rows].copy())
        return forward(self, x, rows, **options)

    monkeypatch.setattr(Sequential, "forward_rows", spy)
    fitted(EVERY, sets)
    for name, (x, _) in sets.items():
        np.testing.assert_array_equal(x, kept[name])
    for train, val in zip(evaluated[::2], evaluated[1::2], strict=True):
        np.testing.assert_array_equal(train, kept["train"])
        np.testing.assert_array_equal(val, kept["val"])


def seen(monkeypatch, batch_size):
    """Return the clips of two epochs as the model sees them in training."""
    clips = []
    forward = Sequential.forward_rows

    def spy(self, x, rows, **options):
        if options.get("training"):
            clips.append(x[rows].copy())
        return forward(self, x, rows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Sequential, "forward_rows", spy)
        without = {name: a for name, a in EVERY.items() if name != "mixup"}
        fitted(without, epochs=2, batch_size=batch_size)
    return np.concatenate(clips)


def test_clips_do_not_depend_on_the_batches_and_differ_by_epoch(monkeypatch):
    clips = seen(monkeypatch, 16)
    np.testing.assert_array_equal(clips, seen(monkeypatch, 7))
    np.testing.assert_array_equal(clips, seen(monkeypatch, None))
    assert len(np.unique(clips[:, 0, 0])) > 80


def test_from_every_place_the_end_is_the_same():
    found = []

    class Keep(Callback):
        def on_batch_end(self, progress):
            found.append(pickle.dumps(TrainingState.of(progress).pack()))

        on_epoch_end = on_batch_end

    options = {"class_weight": "balanced", "sampler": "balanced", "label_smoothing": 0.1}
    expected = fitted(EVERY, callbacks=[Keep()], **options)
    assert len(found) == 3 * 4 + 3
    for content in found:
        state = TrainingState.unpack(pickle.loads(content))
        assert fitted(EVERY, resume=state, **options) == expected


def test_codes_take_a_shift_alone():
    shift = toy.trainer(augmentation={"shift": Shift(0.5)})
    trained = toy.model()
    shift.fit(trained, toy.data())
    plain = toy.model()
    toy.trainer().fit(plain, toy.data())
    assert weights_digest(trained) != weights_digest(plain)
    for name in EVERY.keys() - {"shift"}:
        message = rf"augmentation\.{name} changes signals, and the model reads codes: set dataset"
        with pytest.raises(ConfigError, match=message):
            toy.trainer(augmentation={name: EVERY[name]}).prepare(toy.model(), toy.data())


def test_clips_of_any_length(rng):
    clips = [rng.normal(size=(n, 2)) for n in rng.integers(5, 30, 40)]
    labels = np.arange(40) % 3
    sets = {"train": (Ragged.of(clips), labels), "val": (Ragged.of(clips[:9]), labels[:9])}
    digests = []
    without = {name: a for name, a in EVERY.items() if name != "mixup"}
    for augmentation in (None, without, without):
        trained = Sequential([RNN(4), Dense(3, "softmax")]).build(Signal(None, 2), 1)
        Trainer(SGD(0.1), epochs=2, threads=1, augmentation=augmentation).fit(trained, sets)
        digests.append(weights_digest(trained))
    assert digests[0] != digests[1] == digests[2]
    with pytest.raises(ConfigError, match=r"augmentation\.mixup mixes clips of one length"):
        Augmenter(EVERY).fit(Signal(None, 2), None)


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_configurations():
    assert not build(composed(), "trainer", Trainer).augmenter
    assert build(composed("augmentation.gain.decibels=3"), "trainer", Trainer).augmenter
    every = build(composed("augmentation=signal"), "trainer", Trainer).augmenter
    with pytest.raises(ConfigError, match=r"augmentation\.gain changes signals"):
        every.fit(Codes(5, 4), None)
    every.fit(Signal(5, 1), None)
    names = set(composed("augmentation=signal").augmentation)
    assert names == set(composed().augmentation) == set(EVERY)


def test_one_of_your_own():
    class Reverse(ClipAugmentation):
        is_on = True

        def change(self, clip, rng):
            return clip[::-1]

    assert fitted({"reverse": Reverse()})[0] != fitted(None)[0]
