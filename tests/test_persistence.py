import errno
import os
import pickle
import pickletools
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import toy

from nnjit.classifier import Classifier
from nnjit.datasets import Encoding
from nnjit.errors import ModelFileError, ShapeError
from nnjit.layers import GRU, LSTM, RNN, Codes, Dense, Dropout, Flatten, Signal
from nnjit.model import Sequential
from nnjit.storage import files as persistence
from nnjit.storage.files import weights_digest


@pytest.fixture(scope="module")
def classifier():
    model, data = toy.model(), toy.data()
    toy.trainer().fit(model, data)
    return Classifier.of(model, data)


@pytest.fixture
def path(classifier, tmp_path):
    """Return a sound model file."""
    classifier.save(tmp_path / "model.pkl")
    return tmp_path / "model.pkl"


def refuses(path, message=None):
    with pytest.raises(ModelFileError, match=message) as error:
        Classifier.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def document(path):
    return pickle.loads(path.read_bytes())


def rewrite(path, content, sign=True):
    """Write an altered document, with a digest that fits it."""
    if sign:
        keys = ("config", "weights", "extra")
        content["digest"] = persistence._digest({k: content[k] for k in keys if k in content})
    path.write_bytes(pickle.dumps(content, protocol=5))


def test_round_trip_keeps_every_bit(classifier, path):
    loaded = Classifier.load(path)
    codes = toy.clips(30, seed=9).codes
    expected, found = classifier.predict(codes), loaded.predict(codes)
    assert weights_digest(loaded.model) == weights_digest(classifier.model)
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert (found.predictions == expected.predictions).all()
    assert loaded.encoding == classifier.encoding
    assert (loaded.classes, loaded.positive) == (classifier.classes, classifier.positive)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inputs", [Codes(30, 7), Signal(30, 4)], ids=str)
@pytest.mark.parametrize("cell", [RNN, GRU, LSTM])
def test_round_trip_of_each_cell(cell, inputs, dtype, tmp_path):
    layers = [cell(3, return_sequences=True), Flatten(), Dropout(0.3), Dense(4, "elu"), Dense(1)]
    model = Sequential(layers, dtype).build(inputs, 5)
    persistence.write(tmp_path / "m.pkl", model, {"a": [1, 2.5, None, True, "b"]})
    loaded, extra = persistence.read(tmp_path / "m.pkl")
    assert weights_digest(loaded) == weights_digest(model)
    assert loaded.config() == model.config()
    assert extra == {"a": [1, 2.5, None, True, "b"]}


def test_file_holds_weights_and_no_data(tmp_path):
    model, data = toy.model(), toy.data(sizes=(5000, 500, 500))
    toy.trainer(epochs=1).fit(model, data)
    Classifier.of(model, data).save(tmp_path / "model.pkl")
    n_bytes = sum(value.nbytes for value in toy.weights(model).values())
    assert n_bytes < (tmp_path / "model.pkl").stat().st_size < n_bytes + 4000


def test_file_names_no_class_or_function(path):
    names = {opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())}
    assert not names & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "BUILD"}


def test_weights_digest_sees_every_bit(classifier):
    model = Sequential.from_config(classifier.model.config())
    digests = set()
    for value in model.params["dense"].values():
        for index in (0, -1):
            bits = value.reshape(-1).view(np.uint32)
            bits[index] ^= 1
            digests.add(weights_digest(model))
            bits[index] ^= 1
    digests.add(weights_digest(model))
    assert len(digests) == 5


def test_missing_file_and_folder(tmp_path):
    refuses(tmp_path / "none.pkl", "cannot read")
    refuses(tmp_path, "cannot read")


def test_truncated_files(path):
    content = path.read_bytes()
    for n in [0, 1, 2, 3, 11, 12, 50, *range(100, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:n])
        refuses(path)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF], ids=hex)
def test_one_changed_byte_is_refused(mask, path, classifier):
    content = path.read_bytes()
    harmless = 0  # the pickle has bytes that mean nothing, such as the length of a frame
    for position in [
        *range(200),
        *range(200, len(content), 23),
        *range(len(content) - 50, len(content)),
    ]:
        altered = bytearray(content)
        altered[position] ^= mask
        path.write_bytes(altered)
        try:
            loaded = Classifier.load(path)
        except ModelFileError:
            continue
        harmless += 1
        assert weights_digest(loaded.model) == weights_digest(classifier.model)
        assert loaded.model.config() == classifier.model.config()
        assert (loaded.encoding, loaded.classes) == (classifier.encoding, classifier.classes)
    assert harmless < 20


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class EvilText(Evil):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.target)!r})",)


def by_hand(target):
    """The text form of the oldest protocol, with INST."""
    return f"(S'{target}'\nios\nmkdir\n.".encode()


@pytest.mark.parametrize("protocol", [*range(6), "inst", "inside"])
@pytest.mark.parametrize("kind", [Evil, EvilText])
def test_malicious_pickle_does_not_run(kind, protocol, path, tmp_path):
    target = tmp_path / "made"
    if protocol == "inst":
        path.write_bytes(by_hand(target))
    elif protocol == "inside":
        sound = document(path)
        sound["extra"]["classes"] = kind(target)
        path.write_bytes(pickle.dumps(sound, protocol=5))
    else:
        path.write_bytes(pickle.dumps(kind(target), protocol))
    refuses(path, "asks for|does not begin as one")
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists(), "the pickle is harmless, so the test shows nothing"


@pytest.mark.parametrize(
    "other",
    [None, 7, "text", [1, 2], {}, {"format": "other"}, {"format": "nnjit model"}, b"x" * 100],
    ids=repr,
)
def test_other_plain_pickles(other, path):
    path.write_bytes(pickle.dumps(other, protocol=5))
    refuses(path)


@pytest.mark.parametrize("other", [np.zeros(3), Encoding(), Path(), {1, 2}.union], ids=type)
def test_pickles_of_objects(other, path):
    path.write_bytes(pickle.dumps(other, protocol=5))
    refuses(path, "asks for")


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"hello\n",
        b"\x89PNG\r\n",
        b"PK\x03\x04",
        b"\x80\x05\x50x\n.",
    ],
)
def test_other_files(content, path):
    path.write_bytes(content)
    refuses(path)


@pytest.mark.parametrize("key", ["format", "version", "config", "weights", "extra", "digest"])
def test_missing_keys(key, path):
    content = document(path)
    del content[key]
    rewrite(path, content, sign=False)
    refuses(path)


def test_another_version(path):
    content = document(path)
    content["version"] = 99
    rewrite(path, content)
    refuses(path, "format version 99, this nnjit reads 1: use the version that wrote it")


def test_altered_content_is_seen_by_its_digest(path):
    for key, value in (("extra", {}), ("config", {}), ("weights", {})):
        content = document(path)
        content[key] = value
        rewrite(path, content, sign=False)
        refuses(path, "digest")


def change(content, *place, to):
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = to


W = ("weights", "dense", "W")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((*W, "shape"), [10**10]),
        ((*W, "shape"), [10**10, 10**10]),
        ((*W, "shape"), [-1, 8]),
        ((*W, "shape"), [8, 96]),
        ((*W, "shape"), None),
        ((*W, "shape"), "96"),
        ((*W, "dtype"), "<f8"),
        ((*W, "dtype"), "|O"),
        ((*W, "dtype"), 5),
        ((*W, "dtype"), ["<f4"]),
        ((*W, "data"), b""),
        ((*W, "data"), b"\0" * 3),
        ((*W, "data"), "text"),
        ((*W, "data"), None),
        ((*W, "data"), [1.0] * 768),
        (W, None),
        (("weights", "dense", "extra"), {}),
        (("weights", "dense"), []),
        (("weights", "other"), {}),
        (("weights",), None),
        (("config",), None),
        (("config", "layers"), []),
        (("config", "layers"), None),
        (("config", "layers"), [{"layer": "Evil"}]),
        (("config", "layers", 1), {"layer": "Dense", "units": -1}),
        (("config", "layers", 1), {"layer": "Dense", "units": "8"}),
        (("config", "layers", 1), {"layer": "Dense", "units": 10**12}),
        (("config", "layers", 1), {"layer": "Dense", "units": 10**30}),
        (("config", "layers", 1), {"layer": "Dense", "nonsense": 1}),
        (("config", "layers", 1), 5),
        (("config", "inputs"), {"kind": "Codes", "n_steps": 10**12, "levels": 4}),
        (("config", "inputs"), {"kind": "Codes", "n_steps": 24, "levels": 10**6}),
        (("config", "inputs"), {"kind": "Other"}),
        (("config", "dtype"), "object"),
        (("extra",), None),
        (("extra", "encoding"), None),
        (("extra", "encoding", "levels"), 0),
        (("extra", "encoding", "nonsense"), 0),
        (("extra", "encoding", "method"), ["uniform"]),
        (("extra", "classes"), None),
        (("extra", "classes"), ["one"]),
        (("extra", "classes"), "abc"),
        (("extra", "positive"), None),
        (("extra", "positive"), 7),
        (("extra", "encoding", "rate"), 12.0),
        (("extra", "encoding", "rate"), None),
        (("extra", "encoding", "levels"), 5),
        (("extra", "encoding", "levels"), 4.0),
        (("extra", "encoding", "duration"), 10**90),
        (("extra", "encoding", "rate"), True),
        (("extra", "classes"), "ab"),
        (("extra", "classes"), [1, 2]),
        (("extra", "positive"), -1),
        (("extra", "positive"), True),
        (("extra", "other"), 1),
        ((*W, "shape"), [True, 8]),
        ((*W, "shape"), [2**32, 2**32, 0]),
        ((*W, "shape"), [96.0, 8]),
        ((*W, "other"), 1),
        (("config", "layers", 1, "units"), True),
        (("config", "layers", 1, "units"), 8.0),
        (("config", "layers", 1, "activation"), 3),
        (("config", "layers", 1, "activation"), {"name": "softmax", "temperature": "hot"}),
        (("config", "layers", 1, "activation"), {"name": "relu", "slope": 1}),
        (("config", "layers", 1, "activation"), {"name": ["relu"]}),
        (("config", "layers", 1, "kernel_initializer"), "nothing"),
        (("config", "layers", 1, "kernel_initializer"), ["zeros"]),
        (("config", "layers", 2, "rate"), float("nan")),
        (("config", "layers", 2, "rate"), False),
        (("config", "inputs", "n_steps"), True),
        (("config", "inputs", "n_steps"), 24.0),
        (("config", "inputs", "kind"), {}),
        (("config", "other"), 1),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else repr(value)[:40],
)
def test_signed_but_wrong_values(place, value, path):
    content = document(path)
    change(content, *place, to=value)
    rewrite(path, content)
    refuses(path)


def test_a_list_that_holds_itself(path):
    content = document(path)
    content["extra"]["classes"].append(content["extra"]["classes"])
    rewrite(path, content, sign=False)
    refuses(path)


def test_deep_nesting_in_a_document(path):
    content = document(path)
    content["extra"] = "here"
    packed = pickletools.optimize(pickle.dumps(content, protocol=5))
    assert packed.count(b"\x8c\x04here") == 1
    path.write_bytes(packed.replace(b"\x8c\x04here", b"(" * 100_000 + b"l" * 100_000))
    refuses(path)


def test_a_small_file_takes_little_memory(path):
    # LONG_BINPUT with an index of 2**31: pickle's C code would make a table of that size.
    path.write_bytes(b"\x80\x05K\x01r" + (1 << 31).to_bytes(4, "little") + b".")
    refuses(path, "LONG_BINPUT")


def test_a_file_that_is_too_large(path, monkeypatch):
    monkeypatch.setattr(persistence, "MAX_BYTES", 100)
    refuses(path, "more than any model")


@pytest.mark.parametrize("broken", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_a_write_that_breaks_off_leaves_the_old_file(broken, error, path, classifier, monkeypatch):
    before = path.read_bytes()

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        Classifier(classifier.model, classifier.encoding, ("a", "b")).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.pkl"]


def test_write_makes_folders(classifier, tmp_path):
    classifier.save(tmp_path / "a" / "b" / "model.pkl")
    assert Classifier.load(tmp_path / "a" / "b" / "model.pkl").classes == ("low", "high")


def test_predict_names_clips_and_counts_to_one(classifier):
    found = classifier.predict(toy.clips(6).codes, ["a", "b", "c", "d", "e", "f"])
    assert found.ids == ["a", "b", "c", "d", "e", "f"]
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert classifier.predict(toy.clips(3).codes).ids == ["0", "1", "2"]


def test_verdict_is_the_largest_mean_probability(classifier):
    found = classifier.predict(toy.clips(40, seed=4).codes)
    assert found.verdict == found.probabilities.mean(axis=0).argmax()


def test_predict_with_a_single_unit_gives_both_probabilities(tmp_path):
    model, data = toy.model(1, "sigmoid"), toy.data()
    toy.trainer(loss="binary_cross_entropy").fit(model, data)
    classifier = Classifier.of(model, data)
    found = classifier.predict(data.val.codes)
    assert found.probabilities.shape == (20, 2)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.predictions, found.probabilities[:, 1] > 0.5)
    classifier.save(tmp_path / "m.pkl")
    again = Classifier.load(tmp_path / "m.pkl").predict(data.val.codes)
    assert again.probabilities.tobytes() == found.probabilities.tobytes()


def test_symbols_that_training_never_saw(classifier):
    data = toy.data()
    for clips in data.sets().values():
        clips.codes[clips.codes == 3] = 2
    model = toy.model()
    toy.trainer().fit(model, data)
    found = Classifier.of(model, data).predict(np.full((2, toy.STEPS), 3, np.uint8))
    assert np.isfinite(found.probabilities).all()


@pytest.mark.parametrize(
    "codes",
    [
        np.full((2, toy.STEPS), toy.LEVELS, np.uint8),
        np.full((2, toy.STEPS), -1),
        np.zeros((2, toy.STEPS + 1), np.uint8),
        np.zeros((2, toy.STEPS)),
        np.zeros((0, toy.STEPS), np.uint8),
        np.zeros(toy.STEPS, np.uint8),
    ],
    ids=["unknown symbol", "negative", "too long", "float", "none", "one axis"],
)
def test_codes_that_do_not_fit(codes, classifier):
    with pytest.raises(ShapeError):
        classifier.predict(codes)


def test_values_that_grow_are_refused(path):
    grown = []
    for _ in range(60):
        grown = [grown, grown]
    path.write_bytes(pickle.dumps({**document(path), "extra": grown, "digest": "none"}, protocol=5))
    refuses(path, "deeper values than any file")


def test_values_that_stand_many_times_are_refused(path):
    content = {**document(path), "extra": [[0] * 1000] * 1000, "digest": "none"}
    path.write_bytes(pickle.dumps(content, protocol=5))
    refuses(path, "more values than any file")
    content["extra"] = ["x" * 90_000] * 90
    path.write_bytes(pickle.dumps(content, protocol=5))
    refuses(path, "longer or deeper")
    content["extra"] = [b"x" * 90_000] * 90
    path.write_bytes(pickle.dumps(content, protocol=5))
    refuses(path, "longer or deeper")


def nested(depth):
    value = ["x"] * 9
    for _ in range(depth):
        value = [value] * 9
    return value


@pytest.mark.parametrize(
    "version",
    [nested(40), 10**5000, -1, 1.5, True, "1" * 10**6, None, {}],
    ids=lambda v: str(type(v)),
)
def test_a_version_that_is_no_number_is_not_printed_whole(version, path):
    content = {**document(path), "version": version}
    rewrite(path, content, sign=False)
    if version is True:  # which Python takes for 1
        return
    began = time.monotonic()
    with pytest.raises(ModelFileError) as error:
        Classifier.load(path)
    assert len(str(error.value)) < 1000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("change", [{1: 2}, {1.5: 1, "a": 2}, {None: 1}, {b"k": 1}], ids=repr)
def test_keys_that_are_no_text(change, path):
    content = document(path)
    content["extra"] |= change
    path.write_bytes(pickle.dumps(content, protocol=5))
    refuses(path, "keys that are no text")


def test_a_key_that_takes_for_ever_to_hash(path):
    key = ()
    for _ in range(60):
        key = (key, key)
    packed = pickle.dumps(key, protocol=5)[11:-1]
    path.write_bytes(b"\x80\x05}" + packed + b"K\x01s.")
    refuses(path, "asks for EMPTY_TUPLE")


def peak(path):
    """Return the most bytes that reading a file held at a time, and what was raised."""
    tracemalloc.start()
    try:
        Classifier.load(path)
    except ModelFileError as error:
        return tracemalloc.get_traced_memory()[1], str(error)
    finally:
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return held, ""


SPARE = 64_000_000  # bytes, as the docstring of nnjit.storage.files says


@pytest.mark.parametrize(
    "config",
    [
        {"inputs": {"kind": "Signal", "n_steps": 24, "n_features": 10**8}},
        {"inputs": {"kind": "Signal", "n_steps": 10**8, "n_features": 10**8}},
        {"inputs": {"kind": "Codes", "n_steps": 10**7, "levels": 256}},
        {"layers": [{"layer": "GRU", "hidden_size": 10**5}, {"layer": "Dense", "units": 2}]},
        {"layers": [{"layer": "Flatten"}] + [{"layer": "Dense", "units": 10**9}] * 9},
        {"layers": [{"layer": "Flatten"}, {"layer": "Dense", "units": 10**40}]},
    ],
    ids=str,
)
def test_sizes_in_a_file_are_believed_only_up_to_what_it_holds(config, path):
    content = document(path)
    content["config"] |= config
    rewrite(path, content)
    held, error = peak(path)
    assert error
    assert held < 4 * path.stat().st_size + SPARE


@pytest.mark.parametrize("filler", ["arrays", "lists", "dicts", "text"])
def test_memory_follows_from_the_size_of_the_file(filler, path, tmp_path):
    if filler == "arrays":
        model = Sequential([Flatten(), Dense(2000), Dense(2)]).build(Codes(2000, 4))
        persistence.write(path, model, {})
        assert path.stat().st_size > 60_000_000
    else:
        kinds = {"lists": [], "dicts": {}, "text": "ab"}
        many = [[kinds[filler] for _ in range(1000)] for _ in range(99)]
        content = document(path)
        content["extra"] = pickle.loads(pickle.dumps(many))
        rewrite(path, content)
    held, _ = peak(path)
    assert held < 4 * path.stat().st_size + SPARE


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "model.pkl")
    refuses(tmp_path / "model.pkl", "no regular file")
    with pytest.raises(ModelFileError, match="no regular file"):
        Classifier.load("/dev/zero")


def test_what_could_not_be_read_back_is_not_written(classifier, tmp_path):
    with pytest.raises(ModelFileError, match="it holds a set"):
        persistence.write(tmp_path / "m.pkl", classifier.model, {"a": {1}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"layer": "RNN", "hidden_size": 10**6}, {"units": 10**9}])
def test_an_architecture_larger_than_its_weights_is_refused(path, options):
    content = document(path)
    content["config"]["layers"][-1] |= options
    rewrite(path, content)
    refuses(path, "the architecture needs|units does not exist")
