"""Clips of samples: channels, frames, normalisation, and a model of them in its file."""

import numpy as np
import pytest
import soundfile

from nnjit import GRU, Dense, Flatten, Sequential
from nnjit.classifier import Classifier
from nnjit.datasets import Encoding, Folder, encode_file
from nnjit.datasets.audio import encode_signal
from nnjit.datasets.raw import frames, standardised, statistics
from nnjit.errors import ConfigError, DataError, ModelFileError, ShapeError, SkippedFileWarning
from nnjit.layers import Signal
from tests import toy

RATE, STEPS = 200, 100


@pytest.fixture
def stereo(tmp_path):
    """A folder of two classes, four recordings of two channels each, of other mean and loudness."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("quiet", "loud")):
        (tmp_path / name).mkdir()
        for i in range(4):
            samples = rng.normal((0.1, -0.2), (0.02 + 0.05 * label, 0.1), (700, 2))
            soundfile.write(tmp_path / name / f"{i}.wav", samples, RATE, subtype="FLOAT")
    return tmp_path


def load(root, **options):
    options = {"rate": RATE, "duration": STEPS / RATE, "n_clips": None} | options
    return Folder(root, **{"encoding": "raw", "cache_dir": root / "cache"} | options)


def test_channels_are_mixed_or_kept(stereo):
    mixed = load(stereo, true="loud", false="quiet").load().train.codes
    kept = load(stereo, true="loud", false="quiet", channels=2).load()
    assert mixed.dtype == kept.train.codes.dtype == np.float32
    assert mixed.shape[1:] == (STEPS, 1)
    assert kept.train.codes.shape[1:] == (STEPS, 2)
    assert kept.encoding.inputs == Signal(STEPS, 2)
    as_found = load(stereo, true="loud", false="quiet", channels=None).load()
    assert as_found.encoding.channels == 2
    assert as_found.digest == kept.digest


def test_each_recording_is_normalised_by_itself(stereo):
    path = stereo / "loud" / "0.wav"
    encoding = Encoding(method="raw", rate=RATE, duration=700 / RATE, channels=2)
    clip = encode_file(path, encoding)[0][0]
    samples, _ = soundfile.read(path)
    naive = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    np.testing.assert_allclose(clip, naive, atol=1e-5)


@pytest.mark.parametrize("frame", [1, 4])
def test_statistics_are_those_of_the_training_set_alone(stereo, frame):
    options = {"true": "loud", "false": "quiet", "channels": 2, "frame": frame}
    data = load(stereo, normalise="training", **options).load()
    train = data.train.codes.reshape(-1, 2)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-4)
    assert np.abs(data.val.codes.reshape(-1, 2).std(axis=0) - 1).max() > 1e-4
    np.testing.assert_allclose(data.encoding.mean, (0.1, -0.2), atol=0.05)


@pytest.mark.parametrize("normalise", ["recording", "training"])
def test_prediction_reads_the_same_bits_as_training(stereo, normalise):
    data = load(
        stereo, true="loud", false="quiet", channels=2, frame=5, hop=3, normalise=normalise
    ).load()
    for i, name in enumerate(data.train.files):
        codes, offsets = encode_file(stereo / name, data.encoding)
        at = offsets.tolist().index(data.train.offsets[i])
        np.testing.assert_array_equal(codes[at], data.train.codes[i])


def test_the_cache_gives_the_same_clips(stereo):
    options = {"true": "loud", "false": "quiet", "channels": None, "frame": 5}
    fresh = load(stereo, cache_dir=None, **options).load()
    first, again = load(stereo, **options).load(), load(stereo, **options).load()
    assert fresh.digest == first.digest == again.digest


def test_frames_are_windows():
    encoding = Encoding(method="raw", rate=10, duration=1, frame=4, hop=3, channels=2)
    clips = np.arange(40.0).reshape(2, 10, 2)
    found = frames(clips, encoding)
    assert found.shape == (2, encoding.n_steps, 8) == (2, 3, 8)
    for n in range(2):
        for t in range(3):
            np.testing.assert_array_equal(found[n, t], clips[n, 3 * t : 3 * t + 4].ravel())


def test_a_channel_without_any_variance_stays_finite():
    signals = np.ones((2, 6, 2), np.float32)
    signals[..., 1] = np.arange(6)
    mean, std = statistics(signals, 2)
    assert std[0] == 1
    assert (standardised(signals, mean, std)[..., 0] == 0).all()


@pytest.mark.parametrize("resampler", ["soxr", "decimate"])
def test_samples_are_resampled(resampler):
    signal = np.sin(2 * np.pi * 5 * np.arange(4000) / 2000)
    encoding = Encoding(method="raw", rate=500, duration=1, resampler=resampler)
    clip = encode_signal(signal, 2000, encoding).codes[0, :, 0]
    wanted = np.sqrt(2) * np.sin(2 * np.pi * 5 * np.arange(500) / 500)
    np.testing.assert_allclose(clip[20:-20], wanted[20:-20], atol=2e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "uniform", "frame": 2}, "frame=2 does not go with dataset.encoding=uniform"),
        ({"method": "mulaw", "channels": 2}, "set dataset.encoding=raw"),
        ({"method": "uniform", "channels": None}, "channels=null does not go"),
        ({"method": "raw", "frame": 0}, "dataset.frame=0"),
        ({"method": "raw", "hop": 0}, "dataset.hop=0"),
        ({"method": "raw", "channels": 0}, "dataset.channels=0"),
        ({"method": "raw", "frame": 20_000}, "less than one frame of 20000 samples"),
        ({"method": "raw", "normalise": "batch"}, "use recording, training"),
        ({"method": "raw", "mean": (0.0,), "std": (0.0,)}, "do not fit"),
        ({"method": "raw", "mean": (float("nan"),), "std": (1.0,)}, "do not fit"),
        ({"method": "uniform", "mean": (0.0,), "std": (1.0,)}, "does not go"),
        ({"method": "uniform", "normalise": "training"}, "normalise=training does not go"),
    ],
)
def test_options_that_cannot_work_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        Encoding(**options)


def test_recordings_that_do_not_fit_are_told(stereo):
    soundfile.write(stereo / "loud" / "mono.wav", np.random.default_rng(1).normal(size=700), RATE)
    with pytest.warns(SkippedFileWarning, match=r"mono.wav has 1 channel\(s\), not 2"):
        load(stereo, true="loud", false="quiet", channels=2).load()
    with pytest.raises(DataError, match=r"different numbers of channels.*set dataset.channels=1"):
        load(stereo, true="loud", false="quiet", channels=None).load()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_samples_that_are_no_numbers_are_told(stereo, value):
    samples = np.random.default_rng(1).normal(size=(700, 2))
    samples[300, 1] = value
    path = stereo / "loud" / "odd.wav"
    soundfile.write(path, samples, RATE, subtype="DOUBLE")
    encoding = Encoding(method="raw", rate=RATE, duration=0.5, channels=2)
    with pytest.raises(DataError, match=r"NaN or infinite|too large"):
        encode_file(path, encoding)


def trained(root, **options):
    data = load(root, true="loud", false="quiet", channels=2, frame=4, **options).load()
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    toy.trainer(epochs=1).fit(model, data)
    return Classifier.of(model, data)


def test_the_model_file_carries_the_statistics(stereo):
    classifier = trained(stereo, normalise="training")
    classifier.save(stereo / "model.pkl")
    again = Classifier.load(stereo / "model.pkl")
    assert again.encoding == classifier.encoding
    path = stereo / "loud" / "0.wav"
    one, other = classifier.predict_file(path), again.predict_file(path)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_prediction_refuses_other_channels_and_shapes(stereo):
    classifier = trained(stereo)
    path = stereo / "mono.wav"
    soundfile.write(path, np.random.default_rng(1).normal(size=700), RATE)
    with pytest.raises(DataError, match=r"has 1 channel\(s\), not 2: the model hears 2"):
        classifier.predict_file(path)
    with pytest.raises(ShapeError, match="expected signals"):
        classifier.predict(np.zeros((1, STEPS), np.uint8))


def test_a_model_file_whose_statistics_do_not_fit_is_refused(stereo):
    classifier = trained(stereo, normalise="training")
    wrong = Encoding(**classifier.encoding.to_dict() | {"channels": 1, "mean": [0], "std": [1]})
    Classifier(classifier.model, wrong, classifier.classes).save(stereo / "model.pkl")
    with pytest.raises(ModelFileError, match="do not fit"):
        Classifier.load(stereo / "model.pkl")
