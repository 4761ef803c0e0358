import errno
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from nnjit.datasets import Encoding, Folder, encode_file, reader
from nnjit.datasets.audio import (
    encode_signal,
    mean_of,
    normalise,
    prepare_file,
    read,
    resample,
)
from nnjit.datasets.blocks import range_of, stride
from nnjit.datasets.cache import prepare
from nnjit.errors import DataError, SkippedFileWarning


def resampled(x, rate, encoding=None):
    return np.concatenate(list(resample(lambda: [x], rate, encoding or Encoding(), len(x))))


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
    kept = resampled(low, rate)
    assert stride(rate, Encoding()) == 1e-4
    assert len(kept) == 20_000
    assert abs(level_db(kept, 10_000, 440)) < 0.01
    removed = resampled(high, rate)
    assert level_db(removed, 10_000, 2000) < -90
    decimate = Encoding(resampler="decimate")
    aliased = resampled(high, rate, decimate)
    step = int(rate / 10_000)
    assert stride(rate, decimate) == step / rate
    alias = abs(8000 - rate / step)  # 8 kHz folded at the rate that decimation really gives
    assert level_db(aliased, rate / step, alias) > -0.1


def test_resampled_ends_do_not_jump():
    x = np.full(44_100, 0.5)
    x[20_000] = 1.0
    assert np.abs(resampled(x, 44_100)[[0, -1]] - 0.5).max() < 1e-3


def test_decimation_is_every_fourth_sample(rng):
    x = rng.uniform(size=44_100)
    codes, offsets, rate, *_ = encode_signal(
        x, 44_100, Encoding(resampler="decimate", method="ceil")
    )
    expected = np.ceil(15 * ((x - x.min()) / (x - x.min()).max()))[::4][:10_000]
    assert (codes == expected).all()
    assert (rate, offsets.tolist()) == (10_000, [0.0])
    with pytest.raises(DataError, match=r"resampler=soxr"):
        encode_signal(x, 8000, Encoding(resampler="decimate"))


@pytest.mark.parametrize("rate", [8000, 10_000, 11_025, 44_100, 192_000])
def test_any_rate_gives_whole_clips(rate, rng):
    codes, offsets, *_ = encode_signal(rng.uniform(-1, 1, round(2.6 * rate)), rate, Encoding())
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
    x = rng.normal(size=1000) * 1e-6 + 3
    x = normalise(x, range_of([x]))
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
            tmp_path,
            truncated(write("cut.flac"), 0.5),
        ],
        "cannot be opened": [tmp_path / "missing.wav"],
        "ends in the middle of a page": [truncated(write("cut.ogg"), 0.01)],
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


@pytest.mark.parametrize("rate", [44_100, 48_000, 8000, 11_025, 10_000])
@pytest.mark.parametrize("resampler", ["soxr", "decimate"])
def test_blocks_give_the_bits_of_whole_arrays(rate, resampler, rng):
    """The recording at once, as NumPy and soxr do it: 2.7 million samples are three blocks."""
    x = rng.normal(size=2_700_000 + int(rng.integers(1000))) + 0.3
    encoding = Encoding(rate=8000, duration=0.7, resampler=resampler, levels=256)
    scaled = (x - x.min()) / (x - x.min()).max()
    if rate == encoding.rate:
        expected = scaled
    elif resampler == "decimate":
        expected = scaled[:: rate // 8000]
    else:
        mean = scaled.mean()
        once = soxr.resample(scaled - mean, rate, encoding.rate, quality="VHQ")
        expected = np.clip(once + mean, 0, 1)
    n = len(expected) // 5600
    codes = encode_signal(x, rate, encoding).codes
    assert np.array_equal(codes, encoding.quantise(expected[: n * 5600]).reshape(n, 5600))


@pytest.mark.parametrize("n", [1, 7, 127, 1 << 20, (1 << 20) + 1, 3_333_333, 9_000_001])
def test_the_mean_in_blocks_is_that_of_numpy(n, rng):
    x = rng.uniform(size=n)
    means = []
    for size in (1 << 20, 999_983):
        blocks = (x[at : at + size] for at in range(0, n, size))
        means.append(mean_of(blocks, n))
    assert means[0] == means[1]  # whatever the blocks, and so a data set's digest
    assert means[0] == pytest.approx(x.mean(), rel=1e-14)  # NumPy's own order varies by version


def test_long_recordings_are_decoded_anew_and_short_ones_kept(write, rng, monkeypatch):
    path = write("long.wav", rng.uniform(-0.5, 0.5, (3_000_000, 2)))
    encoding = Encoding(rate=3000)
    short = prepare_file(path, encoding)
    decoded = []
    real = soundfile.SoundFile.read

    def spy(self, *arguments, **options):
        block = real(self, *arguments, **options)
        decoded.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    prepare_file(path, encoding)
    assert sum(decoded) == 3_000_000
    decoded.clear()
    monkeypatch.setattr(reader, "_KEPT", 1000)
    long = prepare_file(path, encoding)
    assert sum(decoded) == 9_000_000
    assert np.array_equal(short.codes, long.codes)


XING = Path(__file__).parent / "inputs" / "xing_claims_too_much.mp3"


def test_sizes_in_a_header_are_believed_as_far_as_the_file_can_hold_them(write, tmp_path):
    tracemalloc.start()
    with pytest.raises(DataError, match="ends before its header says so"):
        encode_file(XING, Encoding())
    slow = write("slow.aiff", rate=1, seconds=24_000)
    with pytest.raises(DataError, match=r"1 samples a second: 24,000 of them would become 240,"):
        encode_file(slow, Encoding())
    with pytest.raises(DataError, match=r"rate of 1 Hz, more than 10,000 times off 20000 Hz"):
        encode_file(slow, Encoding(rate=20_000))
    fast = write("fast.wav", rate=2_000_000_000, seconds=1e-5)
    with pytest.raises(DataError, match="more than 10,000 times off"):
        encode_file(fast, Encoding())
    wide = write("wide.wav", np.ones((50, 1000)))  # a thousand channels
    with pytest.raises(DataError, match="silent or constant"):
        encode_file(wide, Encoding())
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()


def test_more_samples_a_byte_than_any_recording_has(write, monkeypatch):
    path = write("silence.flac", np.r_[0.5, np.zeros(3_000_000)])
    assert len(read(path)[0]) == 3_000_001
    monkeypatch.setattr(reader, "FRAMES_PER_BYTE", 100)
    with pytest.raises(DataError, match="more than 100 samples a byte"):
        read(path)


def test_buffers_never_become_music(write, rng, monkeypatch):
    """What is read does not depend on what lay in memory before."""
    mp3 = write("a.mp3", rng.uniform(-0.5, 0.5, 30_000), rate=44_100)
    cut = mp3.with_name("cut.mp3")
    cut.write_bytes(mp3.read_bytes()[: mp3.stat().st_size // 2])
    flac = write("a.flac", seconds=2)
    seen = []
    for garbage in (0.9, -0.9):

        def dirty(self, frames, always_2d, dtype, garbage=garbage):
            return np.full((frames, self.channels), garbage, dtype)

        monkeypatch.setattr(soundfile.SoundFile, "_create_empty_array", dirty)
        with pytest.raises(DataError, match="ends before"):
            read(cut)
        seen.append([read(path)[0] for path in (mp3, flac)])
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_reasons_do_not_repeat_the_name(tmp_path):
    path = tmp_path / "Odd: Error opening 'x': A.wav"
    path.write_text("no sound")
    reason = r"^cannot be read as audio \(Format not recognised\): replace or remove it$"
    with pytest.raises(DataError, match=reason):
        read(path)


def test_formats_that_cannot_seek(write, rng):
    t = np.arange(16_000) / 8000
    path = write("a.wav", 0.5 * np.sin(2 * np.pi * 300 * t), subtype="GSM610")
    assert encode_file(path, Encoding(rate=8000))[0].shape == (2, 8000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_odd_files_are_one_line_or_read(write, tmp_path):
    for name in ("pipe.wav", "pipe.mp3"):
        os.mkfifo(tmp_path / name)
    link = tmp_path / "gone.wav"
    link.symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "folder.wav").mkdir()
    for name, message in {
        "pipe.wav": "a pipe, a device",
        "pipe.mp3": "a pipe, a device",
        "/dev/zero": "a pipe, a device",
        "gone.wav": "cannot be opened",
        "folder.wav": "it is a folder",
        "nul\0.wav": "cannot be opened",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            encode_file(tmp_path / name, Encoding())
        (error,) = prepare([tmp_path / name], Encoding(), tmp_path / "cache")
        assert isinstance(error, DataError)
        assert re.search(message, str(error))
        assert "\n" not in str(caught.value) + str(error)
    vox = tmp_path / "speech.vox"
    vox.write_bytes(np.random.default_rng(0).bytes(8000))  # headerless: 8 kHz by its ending
    assert len(read(vox)[0]) == 16_000
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    write("plain.wav").rename(odd)
    assert encode_file(odd, Encoding())[0].shape == (3, 10_000)


def test_a_file_without_permission(write, monkeypatch):
    path = write("a.wav")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot be opened \(Permission denied\)"):
        encode_file(path, Encoding())


def test_what_is_not_read_is_told(write, tmp_path):
    path = write("root/a/long.wav")
    path.write_bytes(path.read_bytes() + b"\x01" * 5000)
    for name in ("root/a/b.wav", "root/b/a.wav", "root/b/b.wav"):
        write(name)
    said = r"has 5,000 bytes after the end that its header gives: they are not read"
    options = {"n_clips": None, "cache_dir": tmp_path / "cache", "split": "clip"}
    for seed in range(2):  # from the cache too
        with pytest.warns(UserWarning, match=rf"^a/long\.wav {said}$") as caught:
            Folder(tmp_path / "root", **options).load(seed)
        assert len(caught) == 1
    with pytest.warns(UserWarning, match=rf"^{path} {said}$"):
        encode_file(path, Encoding())


def test_the_remedy_depends_on_the_task(write):
    path = write("short.wav", seconds=0.9)
    with pytest.raises(DataError, match=r"of 1 s: remove it or lower dataset\.duration$"):
        prepare_file(path, Encoding())
    with pytest.raises(DataError, match=r"of 1 s: the model judges clips of that length$"):
        encode_file(path, Encoding())
    with pytest.raises(DataError, match=r"set dataset\.resampler=soxr$"):
        prepare_file(path, Encoding(resampler="decimate"))
    with pytest.raises(DataError, match=r"trained on decimated recordings of that rate or more$"):
        encode_file(path, Encoding(resampler="decimate"))


def test_odd_files_in_a_data_set_are_read_or_left_out(write, two_authors, monkeypatch):
    write("root/a/gsm.wav", rate=8000, subtype="GSM610")
    write("root/a/gone.wav")
    (two_authors / "b/x.raw").write_bytes(bytes(999))
    sources = Folder.sources

    def vanishes(self):
        found = sources(self)
        (two_authors / "a/gone.wav").unlink()
        return found

    monkeypatch.setattr(Folder, "sources", vanishes)
    with pytest.warns(SkippedFileWarning) as caught:
        data = Folder(two_authors, n_clips=None, cache_dir=None).load()
    assert [str(w.message).split(" (")[0] for w in caught] == [
        "a/gone.wav cannot be opened",
        "b/x.raw cannot be read as audio",
    ]
    assert "a/gsm.wav" in {name for clips in data.sets().values() for name in clips.files}
