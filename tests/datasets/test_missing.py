"""Missing values: refused unless a rule is chosen, and filled by the training set alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnjit import GRU, Dense, Flatten, Sequential
from nnjit.classifier import Classifier
from nnjit.datasets import Arrays
from nnjit.datasets.array_files import read_examples
from nnjit.datasets.arrays import ArrayEncoding
from nnjit.datasets.missing import filled, means
from nnjit.errors import ConfigError, DataError
from tests import toy

GAPS = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.5], [np.nan, 8.0, 9.0]])
FILES = {
    "a.csv": "t0,t1,t2,y\n1,,3,a\n4,5,6.5,b\n?,8,9,b\n",
    "all.csv": "t0,t1,t2,y\n,1,2,a\n,3,4,b\n",
    "a.ts": "@classLabel true a b\n@data\n1,?,3:a\n4,5,6.5:b\nNaN,8,9:b\n",
    "a.tsv": "1\t1\tNaN\t3\n2\t4\t5\t6.5\n2\t?\t8\t9\n",
    "a.arff": "@relation a\n@attribute t0 numeric\n@attribute t1 numeric\n@attribute t2 numeric\n"
    "@attribute c {a,b}\n@data\n1,?,3,a\n4,5,6.5,b\n?,8,9,b\n",
}


def write(path):
    """Write GAPS, or what FILES has."""
    if path.suffix == ".npz":
        np.savez(path, x=GAPS, y=["a", "b", "b"])
    elif path.suffix == ".parquet":
        columns = {f"t{t}": pa.array(GAPS[:, t], from_pandas=True) for t in range(3)}
        pq.write_table(pa.table(columns | {"y": ["a", "b", "b"]}), path)
    else:
        path.write_text(FILES[path.name])
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.parquet", "a.arff", "a.ts", "a.tsv"])
def test_every_format_has_missing_values(tmp_path, name):
    path = write(tmp_path / name)
    found = read_examples(path, gaps=True)
    np.testing.assert_array_equal(found.x[:, :, 0], GAPS)
    assert found.y == (["1", "2", "2"] if path.suffix == ".tsv" else ["a", "b", "b"])
    refused = r"a missing value in example 0, one of 2 with such: train with dataset.missing=mean"
    with pytest.raises(DataError, match=refused) as told:
        read_examples(path)
    assert str(path) in str(told.value)


def test_a_column_may_be_empty(tmp_path):
    found = read_examples(write(tmp_path / "all.csv"), gaps=True)
    np.testing.assert_array_equal(found.x[:, :, 0], [[np.nan, 1, 2], [np.nan, 3, 4]])


def test_values_too_large_are_refused_beside_gaps(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.where(GAPS == 5, np.inf, GAPS), y=["a", "b", "b"])
    with pytest.raises(DataError, match=r"has a value beyond 1e\+15 in example 1"):
        read_examples(tmp_path / "a.npz", gaps=True)


def naive(series, rule, mean):
    """Fill one series (T,), value by value."""
    known = [t for t, value in enumerate(series) if not np.isnan(value)]
    found = []
    for t, value in enumerate(series):
        if not np.isnan(value):
            found.append(value)
        elif rule == "zero":
            found.append(0.0)
        elif rule == "mean" or not known:
            found.append(mean)
        else:
            before = max((k for k in known if k < t), default=min(known))
            behind = min((k for k in known if k > t), default=max(known))
            share = (t - before) / (behind - before) if behind > t > before else 0.0
            first = series[before] if before < t else series[behind]
            found.append(first + share * (series[behind] - first))
    return found


@pytest.mark.parametrize("rule", ["zero", "mean", "interpolate"])
def test_values_are_filled_by_the_rule(rule):
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(20, 9, 2)).astype(np.float32)
    signals[rng.random(signals.shape) < 0.5] = np.nan
    signals[3, :, 1] = np.nan
    signals[4, :-1, 0] = np.nan
    before = signals.copy()
    fill = means(signals)
    np.testing.assert_allclose(fill, np.nanmean(signals, axis=(0, 1), dtype=float), rtol=1e-6)
    found = filled(signals, rule, fill)
    assert found.dtype == np.float32
    for example, its in zip(signals, found, strict=True):
        for d in range(2):
            np.testing.assert_allclose(its[:, d], naive(example[:, d], rule, fill[d]), rtol=1e-5)
    np.testing.assert_array_equal(signals, before)


def with_gaps(path, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal((3, -2), (1, 5), (40, 7, 2))
    x[rng.random(x.shape) < 0.2] = np.nan
    np.savez(path, x=x, y=np.arange(40) % 2)
    return x


@pytest.mark.parametrize("rule", ["zero", "mean", "interpolate"])
@pytest.mark.parametrize("normalise", ["training", "example", "none"])
def test_only_the_training_set_is_learned_from(tmp_path, rule, normalise):
    x = with_gaps(tmp_path / "a.npz")
    options = {"missing": rule, "normalise": normalise}
    data = Arrays(tmp_path / "a.npz", **options).load()
    places = [int(name.split("[")[1][:-1]) for name in data.train.files]
    if rule == "zero":
        assert data.encoding.fill == ()
    else:
        np.testing.assert_allclose(
            data.encoding.fill, np.nanmean(x[places], axis=(0, 1)), rtol=1e-5
        )
    for clips in data.sets().values():
        assert np.isfinite(clips.codes).all()
    if normalise == "training":
        np.testing.assert_allclose(data.train.codes.mean(axis=(0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(data.train.codes.std(axis=(0, 1)), 1, atol=1e-5)
    x[[i for i in range(40) if i not in places]] *= 100  # what others hold changes nothing
    np.savez(tmp_path / "b.npz", x=x, y=np.arange(40) % 2)
    other = Arrays(tmp_path / "b.npz", **options).load()
    assert other.encoding == data.encoding
    np.testing.assert_array_equal(other.train.codes, data.train.codes)


@pytest.mark.parametrize("normalise", ["training", "example", "none"])
def test_gaps_of_series_of_unequal_length(tmp_path, normalise):
    rng = np.random.default_rng(0)
    lines = [
        ",".join("?" if rng.random() < 0.2 else f"{v:.3f}" for v in rng.normal(3, 1, n))
        + f":{n % 2}"
        for n in rng.integers(4, 9, 40)
    ]
    (tmp_path / "a.ts").write_text("@classLabel true 0 1\n@data\n" + "\n".join(lines) + "\n")
    data = Arrays(tmp_path / "a.ts", missing="interpolate", normalise=normalise).load()
    assert len(data.encoding.fill) == 1
    for clips in data.sets().values():
        assert all(np.isfinite(example).all() for example in clips.codes)


@pytest.mark.parametrize("normalise", ["training", "example", "none"])
def test_the_model_file_fills_as_training_did(tmp_path, normalise):
    with_gaps(tmp_path / "a.npz")
    data = Arrays(tmp_path / "a.npz", missing="interpolate", normalise=normalise).load()
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    toy.trainer(epochs=1, batch_size=4).fit(model, data)
    Classifier.of(model, data).save(tmp_path / "model.pkl")
    again = Classifier.load(tmp_path / "model.pkl")
    assert again.encoding == data.encoding
    assert "missing values by interpolate" in again.encoding.describe()
    found = again.predict_file(tmp_path / "a.npz")
    row = int(data.val.files[0].split("[")[1][:-1])
    wanted = again.predict(data.val.codes[:1])
    np.testing.assert_allclose(found.probabilities[row], wanted.probabilities[0], rtol=1e-6)


def test_a_model_without_a_rule_refuses_gaps(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(40, 7)), y=[0, 1] * 20)
    data = Arrays(tmp_path / "a.npz").load()
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(2, "softmax")])
    toy.trainer(epochs=1, batch_size=4).fit(model, data)
    np.save(tmp_path / "gaps.npy", np.full((1, 7), np.nan))
    with pytest.raises(DataError, match=r"gaps.npy has a missing value in example 0"):
        Classifier.of(model, data).predict_file(tmp_path / "gaps.npy")


def test_what_is_never_there_is_told(tmp_path):
    x = with_gaps(tmp_path / "a.npz")
    x[..., 1] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    with pytest.raises(DataError, match="value 1 of a step is missing in all examples"):
        Arrays(tmp_path / "a.npz", missing="mean").load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "median"}, "dataset.missing=median is unknown: use error, zero, mean"),
        ({"missing": "zero", "fill": [0.0, 0.0]}, "does not fit missing=zero"),
        ({"missing": "mean", "fill": [0.0]}, "2 features"),
        ({"missing": "mean", "fill": [0.0, float("nan")]}, "does not fit"),
    ],
)
def test_options_that_cannot_work_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        ArrayEncoding(5, 2, **options)
    if "fill" not in options:
        with pytest.raises(ConfigError, match=message):
            Arrays("a.npz", **options)
