import numpy as np
import pytest
import soundfile

from nnjit.datasets import Encoding, encode_file
from nnjit.datasets.audio import encode_signal, normalise, read, resample
from nnjit.errors import DataError


def level_db(signal, rate, frequency):
    """Level of one sine in dB, full scale 0, from the middle of the signal."""
    middle = signal[len(signal) // 4 : -len(signal) // 4]
    middle = middle - middle.mean()
    turn = np.exp(-2j * np.pi * frequency * np.arange(len(middle)) / rate)
    window = np.hanning(len(middle))
    amplitude = 2 * abs((window * middle * turn).sum()) / window.sum()
    return 20 * np.log10(max(amplitude, 1e-12) / 0.5)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_soxr_keeps_440_hz_and_removes_8_khz_where_decimation_aliases(rate):
    t = np.arange(2 * rate) / rate
    low, high = (0.5 + 0.5 * np.sin(2 * np.pi * f * t) for f in (440, 8000))
    kept, stride = resample(low, rate, Encoding())
    assert stride == 1e-4
    assert len(kept) == 20_000
    assert abs(level_db(kept, 10_000, 440)) < 0.01
    removed, _ = resample(high, rate, Encoding())
    assert level_db(removed, 10_000, 2000) < -90
    aliased, stride = resample(high, rate, Encoding(resampler="decimate"))
    step = int(rate / 10_000)
    assert stride == step / rate
    alias = abs(8000 - rate / step)  # 8 kHz folded at the rate that decimation really gives
    assert level_db(aliased, rate / step, alias) > -0.1


def test_resampled_ends_do_not_jump():
    x = np.full(44_100, 0.5)
    x[20_000] = 1.0
    resampled, _ = resample(x, 44_100, Encoding())
    assert np.abs(resampled[[0, -1]] - 0.5).max() < 1e-3


def test_decimation_is_every_fourth_sample(rng):
    x = rng.uniform(size=44_100)
    codes, offsets, rate = encode_signal(x, 44_100, Encoding(resampler="decimate", method="ceil"))
    expected = np.ceil(15 * ((x - x.min()) / (x - x.min()).max()))[::4][:10_000]
    assert (codes == expected).all()
    assert (rate, offsets.tolist()) == (10_000, [0.0])
    with pytest.raises(DataError, match=r"resampler=soxr"):
        encode_signal(x, 8000, Encoding(resampler="decimate"))


@pytest.mark.parametrize("rate", [8000, 10_000, 11_025, 44_100, 192_000])
def test_any_rate_gives_whole_clips(rate, rng):
    codes, offsets, _ = encode_signal(rng.uniform(-1, 1, round(2.6 * rate)), rate, Encoding())
    assert codes.shape == (2, 10_000)
    assert offsets.tolist() == [0.0, 1.0]


def test_rate_of_the_file_is_kept(write):
    codes, offsets = encode_file(write("a.wav", rate=44_100), Encoding(rate=None, duration=0.5))
    assert codes.shape == (6, 22_050)
    assert offsets[1] == 0.5


def test_stereo_is_the_mono_mix(write, rng):
    left, right = rng.uniform(-0.5, 0.5, (2, 20_000))
    stereo = write("s.wav", np.stack([left, right], 1), subtype="DOUBLE")
    mono = write("m.wav", (left + right) / 2, subtype="DOUBLE")
    assert (encode_file(stereo, Encoding())[0] == encode_file(mono, Encoding())[0]).all()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_formats_alike(write, rng, subtype):
    x = rng.integers(-20_000, 20_000, 16_000) / 32_768  # exact in 16 bits
    reference, _ = encode_file(write("r.flac", x), Encoding(method="ceil"))
    codes, _ = encode_file(write("x.wav", x, subtype=subtype), Encoding(method="ceil"))
    assert (codes == reference).all()


def test_normalise_spans_0_to_1(rng):
    x = normalise(rng.normal(size=1000) * 1e-6 + 3)
    assert (x.min(), x.max()) == (0, 1)


def truncated(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def bad_files(write, tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    empty = tmp_path / "empty.wav"
    empty.touch()
    raw = tmp_path / "headerless.raw"
    raw.write_bytes(bytes(1000))
    nan = np.full(30_000, 0.1)
    nan[7] = np.nan
    opposed = np.full((30_000, 2), [np.inf, -np.inf])
    return {
        "cannot be read as audio": [
            text,
            empty,
            raw,
            tmp_path / "missing.wav",
            tmp_path,
            truncated(write("cut.flac"), 0.5),
            truncated(write("cut.ogg"), 0.01),
        ],
        "ends before its header": [
            truncated(write("cut.wav"), 0.5),
            truncated(write("c.aiff"), 0.5),
        ],
        "silent or constant": [
            write("silent.wav", np.zeros(30_000)),
            write("constant.wav", np.full(30_000, 0.3)),
        ],
        "holds no samples": [write("none.wav", np.empty(0))],
        "NaN or infinite": [
            write("nan.wav", nan, subtype="FLOAT"),
            write("inf.wav", opposed, subtype="FLOAT"),
        ],
        "shorter than one clip": [write("short.wav", seconds=0.9)],
    }


def test_each_kind_of_bad_file_is_one_line_that_names_it(write, tmp_path):
    for message, paths in bad_files(write, tmp_path).items():
        for path in paths:
            with pytest.raises(DataError, match=message) as caught:
                encode_file(path, Encoding())
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_streamed_wav_without_a_size_is_read(write):
    path = write("stream.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    assert len(read(path)[0]) == 24_000


def test_long_recordings_are_read_in_blocks(write, rng):
    x = rng.uniform(-0.5, 0.5, (3_000_000, 2))
    path = write("long.wav", x, subtype="DOUBLE")
    signal, rate = read(path)
    assert rate == 8000
    assert np.array_equal(signal, soundfile.read(path)[0].mean(axis=1))
