import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import toy

from nnjit.classifier import Classifier
from nnjit.commands import predict
from nnjit.commands.predict import parse
from nnjit.datasets import Encoding, audio, blocks, encode_file, reader
from nnjit.errors import ConfigError
from nnjit.layers import Codes


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Return the file of a model for clips of 0.5 s at 100 Hz."""
    encoding = Encoding(levels=4, rate=100, duration=0.5)
    path = tmp_path_factory.mktemp("model") / "model.pkl"
    Classifier(toy.model().build(Codes(50, 4)), encoding, ("low", "high")).save(path)
    return path


@pytest.fixture
def wav(tmp_path):
    def write(name, seconds=2.0):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, int(seconds * 1000)), 1000)
        return path

    return write


@pytest.mark.parametrize(
    ("arguments", "options", "audio"),
    [
        (["audio=a.ogg"], {}, ["a.ogg"]),
        (["run=latest", "audio=a", "b.wav"], {"run": "latest"}, ["a", "b.wav"]),
        (["a", "audio=b", "audio=c", "root=x"], {"root": "x"}, ["a", "b", "c"]),
        (["model=m.pkl", "audio=x=y.wav"], {"model": "m.pkl"}, ["x=y.wav"]),
        (["input=a.npz", "b.npz"], {}, ["a.npz", "b.npz"]),
        (["audio=a", "uri=sqlite:///a=b"], {"uri": "sqlite:///a=b"}, ["a"]),
    ],
)
def test_parse(arguments, options, audio):
    assert parse(arguments) == (options, audio)


def test_parse_takes_a_file_whose_name_has_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=y.wav").touch()
    assert parse(["x=y.wav"]) == ({}, ["x=y.wav"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=latest"], "add audio="),
        (["runn=1", "audio=a"], "runn does not exist: did you mean run"),
        (["audio=", "run=1"], "add audio="),
        (["run=1", "model=m.pkl", "audio=a"], "run= or model="),
    ],
)
def test_parse_refuses(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse(arguments)


def run(capsys, *arguments):
    """Run the command line in this process; return its exit code and what it wrote."""
    code = 0
    try:
        predict.main([str(a) for a in arguments])
    except SystemExit as end:
        code = end.code
    written = capsys.readouterr()
    return code, written.out.splitlines(), written.err.splitlines()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(flag, capsys):
    code, out, err = run(capsys, flag)
    assert (code, err) == (0, [])
    for key in predict._KEYS:
        assert any(line.startswith(f"{key}=") for line in out)


def test_prints_clips_and_a_verdict_as_the_python_api(model_file, wav, capsys):
    path = wav("a.wav")
    code, out, err = run(capsys, f"model={model_file}", f"audio={path}")
    assert (code, err) == (0, [])
    expected = Classifier.load(model_file).predict_file(path)
    names = ("low", "high")
    rows = [line.split("  ") for line in out[1:5]]
    assert [row[0] for row in rows] == expected.ids == [f"a.wav@{s}s" for s in (0.0, 0.5, 1.0, 1.5)]
    assert [row[1] for row in rows] == [names[k] for k in expected.predictions]
    for row, p in zip(rows, expected.probabilities, strict=True):
        assert row[2] == f"[{p[0]:.4f} {p[1]:.4f}]"
    mean = expected.probabilities.mean(axis=0).max()
    assert out[5].startswith(f"{path}: {names[expected.verdict]}, mean probability {mean:.4f}")
    assert out[5].endswith("of 4 clips, converted from 1000 Hz")
    assert out[0] == f"model  {model_file}: low, high; reads {expected_reads(model_file)}"


def expected_reads(path):
    return Classifier.load(path).encoding.describe()


def test_what_was_converted_is_told(model_file, tmp_path, capsys):
    noise = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    for rate, channels, told in (
        (100, 1, "clips"),
        (100, 2, "clips, converted from 2 channels"),
        (200, 2, "clips, converted from 200 Hz, 2 channels"),
    ):
        soundfile.write(tmp_path / "a.wav", noise[:, :channels], rate)
        code, out, err = run(capsys, f"model={model_file}", f"audio={tmp_path / 'a.wav'}")
        assert (code, err) == (0, [])
        assert out[-2].endswith(told)


@pytest.mark.filterwarnings("always::nnjit.errors.SkippedFileWarning")
def test_a_folder_is_searched_and_unusable_files_are_named(model_file, wav, tmp_path, capsys):
    first, second = wav("music/a.wav"), wav("music/b.wav")
    short = wav("music/short.wav", 0.1)
    text = tmp_path / "music" / "text.wav"
    text.write_text("not audio")
    (tmp_path / "music" / "notes.txt").write_text("passed over")
    code, out, err = run(capsys, f"model={model_file}", f"audio={tmp_path / 'music'}")
    assert code == 0
    assert [str(p) for p in (first, second)] == [
        line.split(":")[0] for line in out if "mean probability" in line
    ]
    assert len(err) == 2
    for line, path, what in zip(err, (short, text), ("shorter", "cannot be read"), strict=True):
        assert line.startswith(f"nnjit: warning: {path} ")
        assert what in line
        assert line.count(str(path)) == 1
        assert line.endswith("(SkippedFileWarning)")


@pytest.mark.filterwarnings("always::nnjit.errors.SkippedFileWarning")
def test_nothing_that_can_be_judged(model_file, wav, tmp_path, capsys):
    short = wav("music/short.wav", 0.1)
    code, _, err = run(capsys, f"model={model_file}", f"audio={short}")
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith(f"nnjit: {short} lasts 0.1 s, shorter than one clip")
    wav("music/other.wav", 0.1)
    code, _, err = run(capsys, f"model={model_file}", f"audio={tmp_path / 'music'}")
    assert code == 1
    assert len(err) == 3
    assert err[-1] == "nnjit: none of the 2 files could be read"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model={model}", "audio=/nowhere/a.wav"], "/nowhere/a.wav does not exist: name a file"),
        (["model={model}", "audio={empty}"], "holds no recordings"),
        (["model=/nowhere/m.pkl", "audio={empty}"], "cannot read /nowhere/m.pkl"),
        (["model={text}", "audio={empty}"], "is not a model file"),
        (["root={empty}", "audio={text}"], "call this in the folder where you trained"),
        (["modell=a", "audio=b"], "did you mean model"),
    ],
)
def test_bad_input_is_one_line(arguments, message, model_file, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.wav").write_text("not audio")
    places = {"model": model_file, "empty": tmp_path / "empty", "text": tmp_path / "text.wav"}
    code, _, err = run(capsys, *(a.format(**places) for a in arguments))
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith("nnjit: ")
    assert message in err[0]


def test_memory_does_not_grow_with_the_recording(model_file, wav, monkeypatch):
    monkeypatch.setattr(reader, "_KEPT", 0)
    for module in (reader, audio):
        monkeypatch.setattr(module, "BLOCK", 1 << 13)
    monkeypatch.setattr(blocks, "_STEPS", 1 << 13)
    classifier = Classifier.load(model_file)
    encoding = Encoding(levels=4, rate=100, duration=0.5)
    classifier = Classifier(classifier.model, encoding, classifier.classes)
    peaks = []
    for seconds in (100, 1000):
        path = wav("a.wav", seconds)
        classifier.predict_file(path)
        tracemalloc.start()
        assert len(classifier.predict_file(path).ids) == 2 * seconds
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What is kept of a clip is its name and its probabilities; its samples would be 4 kB.
    assert peaks[1] - peaks[0] < 1800 * 500


def test_clips_a_few_at_a_time_have_the_bits_of_all_at_once(model_file, wav, monkeypatch):
    path = wav("a.wav", 60)
    classifier = Classifier.load(model_file)
    codes, _ = encode_file(path, classifier.encoding)
    monkeypatch.setattr(blocks, "_STEPS", 1)
    few = classifier.predict_file(path)
    assert np.array_equal(few.probabilities, classifier.predict(codes).probabilities)
    assert len(few.ids) == len(set(few.ids)) == 120


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_odd_files_are_told_in_one_line(model_file, wav, tmp_path, capsys):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    (tmp_path / "gsm").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(tmp_path / "gsm/a.wav", noise, 8000, subtype="GSM610")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    wav("plain.wav").rename(odd)
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(8000))
    link = tmp_path / "link.wav"
    link.symlink_to(tmp_path / "nowhere.wav")
    for path, said in {
        pipe: "a pipe, a device or the like",
        "/dev/zero": "a pipe, a device or the like",
        raw: "it has no header that tells rate and sample format",
        link: "does not exist",
        wav(
            "short.wav", 0.1
        ): "shorter than one clip of 0.5 s: the model judges clips of that length",
    }.items():
        code, _, err = run(capsys, f"model={model_file}", f"audio={path}")
        assert (code, len(err)) == (1, 1)
        assert said in err[0]
    code, out, err = run(capsys, f"model={model_file}", f"audio={tmp_path / 'gsm/a.wav'}")
    assert (code, err) == (0, [])
    code, out, err = run(capsys, f"model={model_file}", f"audio={odd}")
    assert (code, err) == (0, [])
    assert "/caf\\udce9.wav: " in out[-2]
