"""Examples and strings of unequal length: read, trained on, predicted."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit import GRU, Adam, Dense, Ragged, Sequential, Trainer
from nnjit.classifier import Classifier
from nnjit.datasets import Arrays, Strings
from nnjit.datasets.array_files import read_examples
from nnjit.errors import DataError
from nnjit.layers import Codes, Signal

drawn = settings(
    deadline=None, derandomize=True, max_examples=15, suppress_health_check=list(HealthCheck)
)
LENGTHS = st.lists(st.integers(1, 12), min_size=2, max_size=20)


def series(lengths, d=None):
    rng = np.random.default_rng(0)
    return [rng.normal(3, 2, (n, d) if d else n).round(3) for n in lengths]


def trained(data, tmp_path):
    model = Sequential([GRU(2), Dense(len(data.classes), "softmax")])
    Trainer(Adam(), epochs=1, batch_size=4, threads=1).fit(model, data)
    Classifier.of(model, data).save(tmp_path / "model.pkl")
    again = Classifier.load(tmp_path / "model.pkl")
    assert again.encoding == data.encoding
    return again


@drawn
@given(lengths=LENGTHS, d=st.sampled_from([None, 1, 3]))
def test_every_form_gives_the_same(tmp_path, lengths, d):
    clips, y = series(lengths, d), [f"c{i % 2}" for i in range(len(lengths))]
    padded = np.full((len(clips), 13, *([d] if d else [])), np.nan)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    np.savez(tmp_path / "flat.npz", x=np.concatenate(clips), lengths=lengths, y=y)
    np.savez(tmp_path / "padded.npz", x=padded, lengths=lengths, y=y)
    lines = ["@classLabel true c0 c1", "@data"]
    for clip, label in zip(clips, y, strict=True):
        features = clip.reshape(len(clip), -1).T.tolist()
        lines.append(":".join([*(",".join(map(str, one)) for one in features), label]))
    (tmp_path / "a.ts").write_text("\n".join(lines))
    names = ["flat.npz", "a.ts"]
    if max(lengths) > 1:  # steps of 1 each are taken as values behind one another
        names.append("padded.npz")
    if d is None:
        rows = [",".join("?" if np.isnan(v) else str(v) for v in row) for row in padded[:, :12]]
        head = ["@relation a", *(f"@attribute t{t} numeric" for t in range(12))]
        head += ["@attribute c {c0,c1}", "@data"]
        body = [f"{row},{label}" for row, label in zip(rows, y, strict=True)]
        (tmp_path / "a.arff").write_text("\n".join(head + body))
        names.append("a.arff")
    for name in names:
        found = read_examples(tmp_path / name)
        assert found.y == y
        assert isinstance(found.x, Ragged) == (len(set(lengths)) > 1)
        for example, clip in zip(found.x, clips, strict=True):
            np.testing.assert_array_equal(example, clip.reshape(len(clip), -1))


@pytest.mark.parametrize("normalise", ["training", "example", "none"])
def test_the_model_file_reads_files_as_training_did(tmp_path, normalise):
    lengths = np.random.default_rng(1).integers(6, 30, 24)
    clips, y = series(lengths, 2), np.arange(24) % 3
    np.savez(tmp_path / "a.npz", x=np.concatenate(clips), lengths=lengths, y=y)
    data = Arrays(tmp_path / "a.npz", normalise=normalise).load()
    assert data.encoding.inputs == Signal(None, 2)
    assert f"{lengths.min()} to {lengths.max()} steps" in data.describe()
    if normalise == "training":
        np.testing.assert_allclose(data.train.codes.values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(data.train.codes.values.std(axis=0), 1, atol=1e-5)
    again = trained(data, tmp_path)
    found = again.predict_file(tmp_path / "a.npz")
    wanted = again.predict(data.train.codes).probabilities
    rows = [int(name.split("[")[1][:-1]) for name in data.train.files]
    np.testing.assert_array_equal(found.probabilities[rows], wanted)
    np.save(tmp_path / "wide.npy", np.ones((2, 5, 3)))
    with pytest.raises(DataError, match=r"5 steps of 3 value\(s\): the model reads any number of"):
        again.predict_file(tmp_path / "wide.npy")
    np.save(tmp_path / "equal.npy", np.stack([clip[:2] for clip in clips]))
    assert len(again.predict_file(tmp_path / "equal.npy").ids) == 24


def test_a_model_of_one_length_refuses_unequal_examples(tmp_path):
    clips, y = series([5] * 12), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x=np.stack(clips), y=y)
    again = trained(Arrays(tmp_path / "a.npz").load(), tmp_path)
    np.savez(tmp_path / "b.npz", x=np.ones(7), lengths=[5, 2])
    with pytest.raises(DataError, match=r"2 to 5 steps of 1 value\(s\): the model reads 5 of 1"):
        again.predict_file(tmp_path / "b.npz")


def test_a_test_file_may_be_of_other_lengths_where_any_is_read(tmp_path):
    lengths, y = np.arange(3, 15), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x=np.concatenate(series(lengths)), lengths=lengths, y=y)
    np.savez(tmp_path / "test.npz", x=np.stack(series([40] * 6)), y=y[:6])
    data = Arrays(tmp_path / "a.npz", test=tmp_path / "test.npz").load()
    assert set(data.test.codes.lengths) == {40}
    assert sorted([*data.train.codes.lengths, *data.val.codes.lengths]) == list(lengths)


@drawn
@given(lengths=LENGTHS)
def test_strings_are_taken_whole(tmp_path, lengths):
    rng = np.random.default_rng(0)
    texts = {}
    for name in "ab":
        lines = [
            f"{name}{i:02}" + "".join(rng.choice(list("xyz"), n)) for i, n in enumerate(lengths)
        ]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        texts |= {f"{name}.txt:{i}": text for i, text in enumerate(lines, 1)}
    data = Strings(tmp_path, sizes=(1, 0, 0)).load()
    same = len(set(lengths)) == 1
    n_steps, vocabulary = 3 + lengths[0] if same else None, data.encoding.vocabulary
    assert data.encoding.inputs == Codes(n_steps, len(vocabulary) + 1)
    for name, codes in zip(data.train.files, data.train.codes, strict=True):
        assert "".join(vocabulary[k - 1] for k in codes) == texts[name]


def test_the_model_file_reads_strings_of_any_length(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        lines = ["".join(rng.choice(list("ACGT"), n)) for n in range(10, 26)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    data = Strings(tmp_path).load()
    again = trained(data, tmp_path)
    wanted = again.predict(data.train.codes).probabilities
    found = {}
    for name in "ab":
        told = again.predict_file(tmp_path / f"{name}.txt")
        found |= dict(zip(told.ids, told.probabilities, strict=True))
    np.testing.assert_array_equal([found[name] for name in data.train.files], wanted)
    (tmp_path / "new.txt").write_text("N\n" + "ACGTN" * 40)
    assert np.isfinite(again.predict_file(tmp_path / "new.txt").probabilities).all()
