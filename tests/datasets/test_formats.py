"""What is read is what is in the file, or it is said: every format that libsndfile can write."""

import struct

import numpy as np
import pytest
import soundfile

from nnjit.datasets.ogg import _checksum
from nnjit.datasets.reader import AudioFile
from nnjit.errors import DataError

RATE, FRAMES = 8000, 12_000
# These do not tell their length: a cut between two frames looks like an end.
UNTOLD = {"IRCAM", "PAF", "PVF", "XI"}


def tone():
    """Return a signal of which no two seconds are alike."""
    t = np.arange(FRAMES) / RATE
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, FRAMES)
    return 0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t) + noise


def writable():
    """Yield each format and subtype that libsndfile writes and reads, headerless ones aside."""
    for form in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(form):
            unwritable = form == "RAW" or subtype in ("MPEG_LAYER_I", "MPEG_LAYER_II", "DWVW_12")
            if not unwritable and (form, subtype) != ("WAV", "MPEG_LAYER_III"):
                yield form, subtype


def write(path, form, subtype, signal=None):
    rate = 44_100 if form == "MPC2K" else RATE
    with soundfile.SoundFile(path, "w", rate, 1, subtype, format=form) as file:
        file.write(tone() if signal is None else signal)
    return path.read_bytes()


def read(path):
    """Return the samples and the remarks, or the error as text."""
    try:
        recording = AudioFile(path)
        blocks = list(recording.blocks())
    except DataError as error:
        return None, str(error).splitlines()
    return np.concatenate(blocks) if blocks else np.empty(0), recording.remarks


def check(path, whole, exact=True):
    """Assert that the samples are the beginning of `whole`, or that something is said."""
    signal, said = read(path)
    if said:
        return said
    assert len(signal) <= len(whole) or not exact
    shared = min(len(signal), len(whole))
    assert np.array_equal(signal[:shared], whole[:shared])
    return len(signal)


@pytest.mark.parametrize(("form", "subtype"), list(writable()))
def test_whole_cut_and_twice(form, subtype, tmp_path):
    path = tmp_path / f"x.{form.lower()}"
    data = write(path, form, subtype)
    whole, said = read(path)
    assert said == []
    assert len(whole) == pytest.approx(FRAMES, abs=200)
    if subtype not in ("VORBIS", "OPUS", "MPEG_LAYER_III"):
        assert np.corrcoef(whole[:FRAMES], tone()[: len(whole)])[0, 1] > 0.9
    for tenth in range(10):
        path.write_bytes(data[: max(1, len(data) * tenth // 10 + 1)])
        seen = check(path, whole)
        # Said, or a format of which nothing can be known.
        assert isinstance(seen, list) or form in UNTOLD or form == "SD2"
    path.write_bytes(data + data)
    seen = check(path, whole, exact=False)
    assert isinstance(seen, list) or (form in ("OGG", "MP3", "SD2") and seen >= 2 * FRAMES)


LENGTHS = {  # where the length stands, from where, and its format
    ("WAV", "PCM_16"): (b"data", 4, "<I"),
    ("WAV", "GSM610"): (b"data", 4, "<I"),
    ("WAV", "IMA_ADPCM"): (b"data", 4, "<I"),
    ("WAVEX", "FLOAT"): (b"data", 4, "<I"),
    ("RF64", "PCM_16"): (b"ds64", 16, "<Q"),
    ("AIFF", "PCM_16"): (b"SSND", 4, ">I"),
    ("AIFF", "IMA_ADPCM"): (b"SSND", 4, ">I"),
    ("AU", "PCM_16"): (b".snd", 8, ">I"),
    ("CAF", "PCM_16"): (b"data", 4, ">Q"),
    ("CAF", "ALAC_16"): (b"data", 4, ">Q"),
    ("W64", "PCM_16"): (b"data", 16, "<Q"),
    ("SVX", "PCM_16"): (b"BODY", 4, ">I"),
    ("AVR", "PCM_16"): (b"2BIT", 26, ">I"),
    ("WVE", "ALAW"): (b"ALaw", 18, ">I"),
    ("MPC2K", "PCM_16"): (b"\x01\x04", 30, "<I"),
    ("MAT5", "PCM_16"): (b"wavedata", 12, "<I"),
    ("MAT4", "PCM_16"): (b"wavedata", -12, "<I"),
    ("SDS", "PCM_16"): (b"\xf0\x7e", 10, "<H"),
    ("FLAC", "PCM_16"): (b"fLaC", 22, ">I"),
    ("VOC", "PCM_16"): (b"Creative", 27, "<H"),
}


@pytest.mark.parametrize(("form", "subtype"), LENGTHS)
def test_wrong_lengths(form, subtype, tmp_path):
    path = tmp_path / f"x.{form.lower()}"
    data = write(path, form, subtype)
    whole, _ = read(path)
    tag, offset, code = LENGTHS[form, subtype]
    at = data.index(tag) + offset
    bits = 8 * struct.calcsize(code)
    true = struct.unpack_from(code, data, at)[0]
    for wrong in (0, 1, true // 2, true * 2, 2 ** (bits - 1) - 1, 2**bits - 1, 2 ** (bits - 4)):
        changed = bytearray(data)
        struct.pack_into(code, changed, at, wrong % 2**bits)
        path.write_bytes(changed)
        seen = check(path, whole)
        if isinstance(seen, int):  # what is not said must all be there
            assert seen == 0 or seen >= len(whole) - 40  # no samples are an error when encoded


@pytest.mark.parametrize(
    ("form", "tag", "offset", "code", "placeholders"),
    [
        ("WAV", b"data", 4, "<I", (0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF)),
        ("RF64", b"ds64", 16, "<Q", (0, 2**64 - 1)),
        ("AIFF", b"SSND", 4, ">I", (0, 8, 0xFFFF_FFFF)),
        ("AU", b".snd", 8, ">I", (0, 0x7FFF_FFFF, 0xFFFF_FFFF)),
        ("CAF", b"data", 4, ">Q", (0, 2**64 - 1)),
        ("W64", b"data", 16, "<Q", (0, 24, 2**64 - 1)),
    ],
)
def test_a_length_left_open_by_who_streamed_it(form, tag, offset, code, placeholders, tmp_path):
    path = tmp_path / f"x.{form.lower()}"
    data = bytearray(write(path, form, "PCM_16"))
    del data[data.find(b"PEAK") if b"PEAK" in data[-100:] else len(data) :]
    path.write_bytes(data)
    whole, _ = read(path)
    for length in placeholders:
        struct.pack_into(code, data, data.index(tag) + offset, length)
        path.write_bytes(data)
        signal, said = read(path)
        assert said == []
        assert np.array_equal(signal, whole)


def test_flac_of_unknown_length_is_read(tmp_path):
    path = tmp_path / "x.flac"
    data = bytearray(write(path, "FLAC", "PCM_16"))
    whole, _ = read(path)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    for tag in (b"", b"TAG" + bytes(125)):
        path.write_bytes(data + tag)
        signal, said = read(path)
        assert said == []
        assert np.array_equal(signal, whole)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_songs_chained_in_ogg_are_all_read(subtype, tmp_path):
    first = write(tmp_path / "a.ogg", "OGG", subtype)
    second = write(tmp_path / "b.ogg", "OGG", subtype, tone()[::-1])
    path = tmp_path / "chain.ogg"
    path.write_bytes(first + second + first)
    parts = [read(tmp_path / name)[0] for name in ("a.ogg", "b.ogg", "a.ogg")]
    signal, said = read(path)
    assert said == []
    assert np.array_equal(signal, np.concatenate(parts))
    other = tmp_path / "c.ogg"
    soundfile.write(other, tone(), 2 * RATE, subtype=subtype)
    path.write_bytes(first + other.read_bytes())
    assert read(path)[1] == ["holds recordings of 8000, 16000 Hz, one after another: split it"]


def test_ogg_pages_that_are_damaged_or_missing(tmp_path):
    path = tmp_path / "x.ogg"
    long = np.tile(tone(), 20)
    with soundfile.SoundFile(path, "w", RATE, 1, "VORBIS", format="OGG") as file:
        for at in range(0, len(long), 4000):
            file.write(long[at : at + 4000])
    data = path.read_bytes()
    pages = [k for k in range(len(data)) if data[k : k + 4] == b"OggS"]
    assert len(pages) > 5
    path.write_bytes(data[: pages[3]] + data[pages[4] :])
    assert "lacks pages before byte" in read(path)[1][0]
    path.write_bytes(data[: pages[3]])
    assert "its last Ogg page is missing" in read(path)[1][0]
    flipped = bytearray(data)
    flipped[(pages[3] + pages[4]) // 2] ^= 1
    path.write_bytes(flipped)
    assert read(path)[1] == [
        f"is damaged (byte {pages[3]:,} of {len(data):,}): copy or download it again"
    ]
    path.write_bytes(data[: pages[3] + 500])
    assert "ends in the middle of a page" in read(path)[1][0]


def mp3(path, level, signal=None):
    """Write an MP3 of constant bit rate; return its frames of sound, without the first."""
    options = {"compression_level": level, "bitrate_mode": "CONSTANT"}
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 44_100)
    soundfile.write(path, noise if signal is None else signal, 44_100, format="MP3", **options)
    data = path.read_bytes()
    return data[data.index(data[:2], 4) :]


def test_mp3_without_a_count_is_read_to_its_end(tmp_path):
    path = tmp_path / "x.mp3"
    loud, small = mp3(path, 0.0), mp3(path, 0.9)
    for parts in ((loud,), (small,), (loud, small), (small, loud), (small, small)):
        path.write_bytes(b"".join(parts))
        signal, said = read(path)
        assert said == []
        delay = 529  # of the decoder, which it takes away where frames are counted
        assert len(signal) == len(parts) * 40 * 1152 - delay
        if len(parts) == 1:  # what the decoder makes of it without our help
            assert np.array_equal(signal, soundfile.read(path)[0][delay : 40 * 1152])
    path.write_bytes(small[: len(small) // 2 + 11])
    assert "ends in the middle of a frame" in read(path)[1][0]
    path.write_bytes(small[:5000] + bytes(range(1, 200)) * 3 + small[5000:])
    assert "are no frames of MPEG audio" in read(path)[1][0]


def test_mp3_counts_that_are_off(tmp_path):
    """Xing's header counts the frames behind it; some encoders count its own too."""
    path = tmp_path / "x.mp3"
    mp3(path, 0.5)
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"Info") + 8
    count = int.from_bytes(data[at : at + 4])
    for wrong, said in {count + 1: "", count + 2: "ends before", 3: "", 0: ""}.items():
        data[at : at + 4] = wrong.to_bytes(4)
        path.write_bytes(data)
        signal, remarks = read(path)
        if said:
            assert said in remarks[0]
        else:
            assert remarks == []
            assert np.array_equal(signal, whole)
    fraunhofer = bytearray(data)
    fraunhofer[36:54] = b"VBRI" + bytes(10) + count.to_bytes(4)
    fraunhofer[at - 8 : at - 4] = bytes(4)
    path.write_bytes(fraunhofer)
    assert read(path)[1] == []


def test_mp3_behind_tags(tmp_path):
    path = tmp_path / "x.mp3"
    mp3(path, 0.5)
    whole, _ = read(path)
    data = path.read_bytes()
    for padding in (0, 300):  # some tags are longer than they say
        tag = b"ID3\x03\0\0\0\0\x01\x00" + bytes(128 + padding)
        path.write_bytes(tag + data + b"TAG" + bytes(125))
        signal, said = read(path)
        assert said == []
        assert np.array_equal(signal, whole)


def chunk(name, data, pad=True):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (pad and len(data) & 1)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 8))
SOUND = np.random.default_rng(0).bytes(5001)
SHAPES = {  # WAV files as programs write them, and what is said of them
    "plain": (riff(FORMAT, chunk(b"data", SOUND)), ""),
    "no byte of padding": (riff(FORMAT, chunk(b"data", SOUND, False)), ""),
    "list behind": (riff(FORMAT, chunk(b"data", SOUND), chunk(b"LIST", b"INFOabc")), ""),
    "list without padding": (
        riff(FORMAT, chunk(b"data", SOUND, False), chunk(b"LIST", b"INFOabc")),
        "",
    ),
    "broadcast": (riff(chunk(b"bext", bytes(602)), FORMAT, chunk(b"data", SOUND)), ""),
    "tag": (riff(FORMAT, chunk(b"data", SOUND)) + b"TAG" + bytes(125), ""),
    "padded to a sector": (riff(FORMAT, chunk(b"data", SOUND)) + bytes(3000), ""),
    "counts its header": (
        riff(FORMAT) + b"data" + struct.pack("<I", 5045) + SOUND,
        "lacks 44 of 5,045 bytes that its header announces",
    ),
    "another behind": (
        2 * riff(FORMAT, chunk(b"data", SOUND)),
        "has 5,047 bytes after the end that its header gives: they are not read",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_wav_as_programs_write_it(shape, tmp_path):
    path = tmp_path / "x.wav"
    data, remark = SHAPES[shape]
    path.write_bytes(data)
    signal, said = read(path)
    assert said == ([remark] if remark else [])
    expected = (np.frombuffer(SOUND, np.uint8) - 128.0) / 128
    assert np.array_equal(signal, expected)


def test_a_wav_that_holds_nothing(tmp_path):
    path = tmp_path / "x.wav"
    for tail in (b"", chunk(b"LIST", b"INFOabcd")):
        path.write_bytes(riff(FORMAT, chunk(b"data", b""), tail))
        signal, said = read(path)
        assert (len(signal), said) == (0, [])


def page(flags, serial, number, body):
    """Return a page of an Ogg stream."""
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, 1)
    data = head + bytes([len(body)]) + body
    return data[:22] + struct.pack("<I", _checksum(data)) + data[26:]


def test_other_streams_beside_the_sound_in_ogg(tmp_path):
    path = tmp_path / "x.ogg"
    data = write(path, "OGG", "VORBIS")
    whole, _ = read(path)
    pages = [k for k in range(len(data)) if data[k : k + 4] == b"OggS"]
    first, last = pages[1], pages[-1]
    beside = (page(2, 99, 0, b"pictures"), page(4, 99, 1, b"more"))
    path.write_bytes(data[:first] + beside[0] + data[first:last] + beside[1] + data[last:])
    signal, said = read(path)
    assert said == []
    assert np.array_equal(signal, whole)
    path.write_bytes(data[:first] + beside[0] + data[first:])
    assert "its last Ogg page is missing" in read(path)[1][0]
    path.write_bytes(data + bytes(100))
    signal, said = read(path)
    assert np.array_equal(signal, whole)
