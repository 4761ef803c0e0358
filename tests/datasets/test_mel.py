"""Mel bands: against a plain reference, the same bits everywhere, and what cannot work is told."""

import sys

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from nnjit import GRU, Dense, Flatten, Sequential
from nnjit.classifier import Classifier
from nnjit.datasets import Encoding, Folder, blocks, encode_file
from nnjit.datasets.audio import encode_signal
from nnjit.datasets.mel import log_mel
from nnjit.errors import ConfigError
from nnjit.layers import Signal
from tests import toy

RATE = 2000
MEL = {"rate": RATE, "frame": 128, "hop": 48, "n_mels": 9}


def encoding(**options):
    return Encoding(method="log_mel", **MEL | {"duration": 0.5} | options)


def to_mel(hz):
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def from_mel(mel):
    return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def naive(clip, e):
    """The bands (T, n_mels) of a signal (samples,), by the definitions."""
    n, bins = np.arange(e.frame), np.arange(e.frame // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / e.frame)
    waves = np.exp(-2j * np.pi * np.outer(bins, n) / e.frame)
    top = to_mel(e.fmax or e.rate / 2)
    corners = [from_mel(m) for m in np.linspace(to_mel(e.fmin), top, e.n_mels + 2)]
    found = []
    for at in range(0, len(clip) - e.frame + 1, e.step):
        power = np.abs(waves @ (window * clip[at : at + e.frame])) ** 2
        bands = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            hz = bins * e.rate / e.frame
            sides = np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle))
            bands.append((np.maximum(sides, 0) * 2 / (high - low) * power).sum())
        found.append(10 * np.log10(np.maximum(bands, 1e-10)))
    return np.array(found)


@pytest.mark.parametrize(
    "options", [{}, {"fmin": 100.0, "fmax": 800.0}, {"frame": 99, "hop": None}]
)
def test_bands_are_those_of_the_definition(options):
    e = encoding(normalise="training", **options)
    signal = np.random.default_rng(0).normal(0, 0.1, (1, 1000)).astype(np.float32)
    found = log_mel(signal[:, :, None], e)
    assert found.dtype == np.float32
    assert found.shape == (1, e.n_steps, e.n_mels)
    np.testing.assert_allclose(found[0], naive(signal[0].astype(float), e), atol=1e-4)


def test_digital_silence_is_the_lowest_level():
    assert (log_mel(np.zeros((1, 1000, 1), np.float32), encoding()) == -100).all()


@pytest.fixture
def folder(tmp_path):
    """A folder of two classes, four recordings of two channels each."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("hiss", "hum")):
        (tmp_path / name).mkdir()
        for i in range(4):
            samples = rng.normal(0, 0.05, (2600, 2))
            hum = label * 0.3 * np.sin(2 * np.pi * 200 * np.arange(2600) / RATE)
            soundfile.write(tmp_path / name / f"{i}.wav", samples + hum[:, None], RATE, "FLOAT")
    return tmp_path


def load(root, **options):
    options = MEL | {"duration": 0.5, "n_clips": None, "cache_dir": root / "cache"} | options
    return Folder(root, true="hum", false="hiss", encoding="log_mel", **options).load()


def test_channels_are_mixed_or_kept(folder):
    assert load(folder).encoding.inputs == Signal(19, 9)
    kept = load(folder, channels=None)
    assert kept.encoding.inputs == Signal(19, 18)
    path = folder / kept.train.files[0]
    samples = soundfile.read(path)[0]
    both = encode_file(path, encoding(channels=2, normalise="training"))[0]
    right = encode_signal(samples[:, 1], RATE, encoding(normalise="training")).codes
    np.testing.assert_allclose(both[:, :, 1::2], right, atol=1e-5)


def test_statistics_are_those_of_the_recording(folder):
    clips = encode_file(folder / "hum" / "0.wav", encoding())[0]
    np.testing.assert_allclose(clips.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(clips.std(axis=(0, 1)), 1, atol=1e-4)


def test_statistics_are_those_of_the_training_set_alone(folder):
    data = load(folder, normalise="training")
    np.testing.assert_allclose(data.train.codes.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(data.train.codes.std(axis=(0, 1)), 1, atol=1e-4)
    assert len(data.encoding.mean) == 9
    assert np.abs(data.val.codes.std(axis=(0, 1)) - 1).max() > 1e-3


@pytest.mark.parametrize("normalise", ["recording", "training"])
def test_prediction_and_cache_give_the_same_bits_as_training(folder, normalise, monkeypatch):
    options = {"channels": 2, "normalise": normalise}
    fresh = load(folder, cache_dir=None, **options)
    first, again = load(folder, **options), load(folder, **options)
    assert fresh.digest == first.digest == again.digest
    monkeypatch.setattr(blocks, "_STEPS", 1)  # 16 clips at once, of a file that has 2
    with threadpool_limits(1):
        for i, name in enumerate(fresh.train.files):
            codes, offsets = encode_file(folder / name, fresh.encoding)
            at = offsets.tolist().index(fresh.train.offsets[i])
            np.testing.assert_array_equal(codes[at], fresh.train.codes[i])


def test_a_recording_in_many_parts_gives_the_same_bits(monkeypatch):
    signal = np.random.default_rng(0).normal(0, 0.1, 50_000)
    whole = encode_signal(signal, RATE, encoding()).codes
    monkeypatch.setattr(blocks, "_STEPS", 1)
    np.testing.assert_array_equal(encode_signal(signal, RATE, encoding()).codes, whole)


@pytest.mark.parametrize("normalise", ["recording", "training"])
def test_whole_recordings_have_bands_of_any_number(folder, normalise):
    samples = np.random.default_rng(1).normal(0, 0.1, (900, 2))
    soundfile.write(folder / "hum" / "short.wav", samples, RATE, "FLOAT")
    data = load(folder, duration=None, normalise=normalise)
    assert data.encoding.inputs == Signal(None, 9)
    for clips in data.sets().values():
        for name, clip in zip(clips.files, clips.codes, strict=True):
            assert clip.shape == (17 if name.endswith("short.wav") else 52, 9)
            codes, _ = encode_file(folder / name, data.encoding)
            np.testing.assert_array_equal(codes[0], clip)


def test_recordings_of_another_rate_are_resampled():
    times = np.arange(0, 1, 1 / 8000)
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    e = encoding(normalise="training")
    at_8k, at_2k = (encode_signal(x, r, e).codes for x, r in ((tone, 8000), (tone[::4], RATE)))
    loud = at_2k > -30
    assert loud.any()
    np.testing.assert_allclose(at_8k[loud], at_2k[loud], atol=0.5)


def test_the_model_file_carries_the_bands(folder):
    data = load(folder, normalise="training")
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    toy.trainer(epochs=1, batch_size=4).fit(model, data)
    classifier = Classifier.of(model, data)
    classifier.save(folder / "model.pkl")
    again = Classifier.load(folder / "model.pkl")
    assert again.encoding == data.encoding
    path = folder / "hum" / "0.wav"
    one, other = classifier.predict_file(path), again.predict_file(path)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_options_of_bands_stay_out_of_other_records():
    assert "n_mels" not in Encoding(method="raw").to_dict()
    assert "n_mels" not in Encoding().to_dict()
    assert Encoding.from_dict(encoding().to_dict()) == encoding()
    assert "9 log-mel bands" in encoding().describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": 1}, "dataset.frame=1 is no window"),
        ({"frame": 1 << 17}, "2 to 65536"),
        ({"n_mels": 0}, "dataset.n_mels=0"),
        ({"n_mels": 513}, "from 1 to 512"),
        ({"fmin": -1.0}, "dataset.fmin=-1"),
        ({"fmin": 1000.0}, "fmin=1000 and dataset.fmax=null span no bands"),
        ({"fmin": 500.0, "fmax": 400.0}, "fmin be less than fmax"),
        ({"fmax": 1001.0}, "at most half the rate, 1000 Hz"),
        ({"fmax": float("nan")}, "dataset.fmax=nan"),
        ({"mean": (0.0,), "std": (1.0,)}, "do not fit"),
        ({"method": "raw", "n_mels": 20}, "n_mels=20 does not go with dataset.encoding=raw"),
        ({"method": "uniform", "frame": 1, "hop": None, "fmax": 9.0, "n_mels": 40}, "set dataset"),
    ],
)
def test_options_that_cannot_work_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        Encoding(**{"method": "log_mel", "duration": 0.5} | MEL | options)


def test_too_many_bands_for_a_window_are_told():
    with pytest.raises(ConfigError, match=r"of dataset.n_mels=200 bands hold no frequency.*lower"):
        encode_signal(np.sin(np.arange(1000.0)), RATE, encoding(n_mels=200))


def test_without_librosa_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ConfigError, match=r"needs librosa: pip install 'nnjit\[mel\]'"):
        encode_signal(np.sin(np.arange(1000.0)), RATE, encoding(n_mels=8))
