"""Strings: their pieces, their vocabulary, and what cannot be read."""

import numpy as np
import pytest

from nnjit import GRU, Dense, Flatten, Sequential
from nnjit.classifier import Classifier
from nnjit.datasets import Strings
from nnjit.datasets.strings import TextEncoding, read_texts
from nnjit.errors import ConfigError, DataError, SkippedFileWarning
from nnjit.layers import Codes
from tests import toy


@pytest.fixture
def genes(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "genes"
    root.mkdir()
    for name in ("a", "b"):
        texts = ["".join(rng.choice(list("ACGT"), 30)) for _ in range(12)]
        lines = [f">{name}{i} words\n{text[:20]}\n{text[20:]}\n" for i, text in enumerate(texts)]
        (root / f"{name}.fasta").write_text("".join(lines))
    return root


def test_strings_are_taken_whole(genes):
    data = Strings(genes).load()
    assert data.classes == ("a", "b")
    assert data.encoding == TextEncoding(30, "ACGT")
    assert data.encoding.inputs == Codes(30, 5)
    assert data.train.codes.dtype == np.uint8
    assert set(np.unique(data.train.codes)) == {1, 2, 3, 4}
    texts = {t.name: t.text for f in "ab" for t in read_texts(genes / f"{f}.fasta")}
    for clips in data.sets().values():
        for name, codes in zip(clips.files, clips.codes, strict=True):
            assert "".join(" ACGT"[k] for k in codes) == texts[name]


def test_pieces_of_a_string_stay_together(genes):
    data = Strings(genes, length=7).load()
    assert len(data) == 24 * 4
    assert "no string is in more than one set" in data.describe()
    assert data.train.files[0].rpartition("@")[2] in ("0", "7", "14", "21")


def test_the_vocabulary_is_of_the_training_set_alone(tmp_path):
    # Each string has a symbol of its own: those of other sets must not get a code.
    for k, name in enumerate("ab"):
        lines = [chr(0x4E00 + 50 * k + i) + "xy" for i in range(12)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.warns(UserWarning, match="symbol.s. are not in the training set"):
        data = Strings(tmp_path).load()
    assert len(data.encoding.vocabulary) == len(data.train) + 2
    assert (data.train.codes > 0).all()
    assert (data.val.codes[:, 0] == 0).all()
    assert (data.val.codes[:, 1:] > 0).all()


def test_equal_strings_are_one_track(tmp_path):
    lines = [f"{i:05b}" for i in range(32)]
    (tmp_path / "a.txt").write_text("\n".join(lines[:16]))
    (tmp_path / "b.txt").write_text("\r\n".join([lines[0], *lines[16:]]))
    with pytest.warns(UserWarning, match="a.txt:1 = b.txt:1: the same string in several classes"):
        data = Strings(tmp_path).load()
    assert "no string is in more than one set" in data.describe()


def test_short_strings_are_left_out(genes):
    with (genes / "a.fasta").open("a") as file:
        file.write(">short\nACG\n")
    with pytest.warns(SkippedFileWarning, match=r"1 string\(s\) of fewer than 10 symbols"):
        Strings(genes, length=10).load()


@pytest.mark.filterwarnings("ignore:24 string")
def test_strings_that_are_all_too_short_are_told(genes):
    with pytest.raises(DataError, match=r"no string .* has 99 symbols: lower dataset.length=99"):
        Strings(genes, length=99).load()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds 0 file"),
        ({"a.txt": b"x"}, "holds 1 file"),
        ({"a.txt": b"x", "a.fasta": b">x\nx"}, "of another name"),
        ({"a.txt": b"", "b.txt": b"x"}, "a.txt holds no strings"),
        ({"a.txt": b"\n\n", "b.txt": b"x"}, "a.txt holds no strings"),
        ({"a.txt": "ä".encode("latin-1"), "b.txt": b"x"}, "a.txt is not UTF-8 .byte 0"),
        ({"a.fasta": b"ACGT\n", "b.txt": b"x"}, "before any '>' in line 1"),
        ({"a.fasta": b">one\n>two\n", "b.txt": b"x"}, "holds no strings"),
    ],
)
def test_files_that_do_not_fit_are_told(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Strings(tmp_path).load()


def test_no_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Strings(tmp_path / "nowhere").load()


def test_too_many_symbols_are_told(tmp_path):
    for k, name in enumerate("ab"):
        text = "\n".join(
            "".join(map(chr, range(0x4E00 + i, 0x4E00 + i + 300))) for i in range(9 * k, 9 * k + 9)
        )
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the training set has 3\d\d symbols.*at most 255"):
        Strings(tmp_path).load()


@pytest.mark.parametrize("length", [None, 10])
def test_the_model_file_reads_strings_as_training_did(genes, length):
    data = Strings(genes, length=length).load()
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    toy.trainer(epochs=1, batch_size=4).fit(model, data)
    classifier = Classifier.of(model, data)
    classifier.save(genes / "model.pkl")
    again = Classifier.load(genes / "model.pkl")
    assert again.encoding == data.encoding
    name = data.train.files[0]
    found = again.predict_file(genes / name.split(":")[0])
    wanted = classifier.predict(data.train.codes).probabilities[0]
    np.testing.assert_allclose(found.probabilities[found.ids.index(name)], wanted, rtol=1e-6)
    (genes / "new.txt").write_text("NNNNNNNNNN" * 3)
    assert np.isfinite(again.predict_file(genes / "new.txt").probabilities).all()
    (genes / "new.txt").write_text("ACG")
    with pytest.raises(DataError, match=f"string of 3 symbols .* reads .*{length or 30}"):
        again.predict_file(genes / "new.txt")
