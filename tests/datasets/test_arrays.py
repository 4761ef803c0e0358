"""Examples from files: every format gives the same, and what does not fit is one line."""

import inspect
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import nnjit
from nnjit import GRU, Dense, Flatten, Sequential
from nnjit.classifier import Classifier
from nnjit.datasets import Arrays, Digits, Strings
from nnjit.datasets.array_files import read_examples
from nnjit.datasets.arrays import ArrayData, ArrayEncoding
from nnjit.errors import ConfigError, DataError, ModelFileError
from nnjit.layers import Signal
from tests import toy

N, T = 24, 6


def values(d=None):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (N, T) if d is None else (N, T, d)).round(3)
    return x, np.array(["yes", "no", "maybe"])[np.arange(N) % 3]


def write(path, x, y):
    """Write examples in the format of a path's ending."""
    if path.suffix == ".npz":
        np.savez(path, x=x, y=y)
    elif path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".csv":
        head = ",".join([*(f"t{t}" for t in range(x.shape[1])), "y"])
        rows = [",".join([*map(str, row), label]) for row, label in zip(x.tolist(), y, strict=True)]
        path.write_text("\n".join([head, *rows]) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({f"t{t}": x[:, t] for t in range(x.shape[1])} | {"y": y}), path)
    elif path.suffix == ".arff":
        lines = ["% made by hand", "@relation toy"]
        lines += [f"@attribute t{t} numeric" for t in range(x.shape[1])]
        lines += ["@attribute target {maybe,no,yes}", "@data"]
        rows = [",".join([*map(str, row), label]) for row, label in zip(x.tolist(), y, strict=True)]
        path.write_text("\n".join([*lines, *rows]) + "\n")
    elif path.suffix in (".tsv", ".txt"):
        between = "\t" if path.suffix == ".tsv" else "  "
        rows = [
            [("maybe", "no", "yes").index(k), *row] for k, row in zip(y, x.tolist(), strict=True)
        ]
        path.write_text("\n".join(between.join(map(str, row)) for row in rows) + "\n")
    else:
        x = x if x.ndim == 3 else x[:, :, None]
        lines = ["#a comment", "@problemName toy", "@timeStamps false", "@classLabel true a b"]
        for example, label in zip(x, y, strict=True):
            series = [",".join(map(str, one)) for one in example.T.tolist()]
            lines.append(":".join([*series, label]))
        path.write_text("\n".join([*lines[:4], "@data", *lines[4:]]) + "\n")


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet", "arff", "ts"])
def test_every_format_gives_the_same(tmp_path, ending):
    x, y = values()
    write(tmp_path / f"toy.{ending}", x, y)
    found = read_examples(tmp_path / f"toy.{ending}")
    np.testing.assert_array_equal(found.x, x[:, :, None])
    assert found.y == y.tolist()


@pytest.mark.parametrize("ending", ["tsv", "txt"])
def test_series_with_their_class_first(tmp_path, ending):
    x, y = values()
    write(tmp_path / f"toy.{ending}", x, y)
    found = read_examples(tmp_path / f"toy.{ending}")
    np.testing.assert_array_equal(found.x, x[:, :, None])
    assert found.y == [str(("maybe", "no", "yes").index(label)) for label in y]


@pytest.mark.parametrize("text", ["1 2 3 4\n2 3\n", "1,2,3,4\n2,3,NaN,NaN\n"])
def test_series_of_the_archive_may_end_earlier(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    found = read_examples(tmp_path / "a.txt")
    assert [example[:, 0].tolist() for example in found.x] == [[2, 3, 4], [3]]


@pytest.mark.parametrize("ending", ["npz", "ts"])
def test_several_values_a_step(tmp_path, ending):
    x, y = values(3)
    write(tmp_path / f"toy.{ending}", x, y)
    np.testing.assert_array_equal(read_examples(tmp_path / f"toy.{ending}").x, x)


def test_npy_takes_its_classes_from_another_file(tmp_path):
    x, _ = values()
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    np.save(tmp_path / "y.npy", np.arange(N) % 2.0)
    with pytest.raises(DataError, match=r"tells no classes.*dataset.labels"):
        Arrays(tmp_path / "x.npy").load()
    data = Arrays(tmp_path / "x.npy", labels=tmp_path / "y.npy").load()
    assert data.classes == ("0", "1")


def test_labels_follow_the_order_of_numbers(tmp_path):
    x, _ = values()
    y = np.array([10, 9, -1])[np.arange(N) % 3]
    np.savez(tmp_path / "a.npz", x=x, y=y)
    source = Arrays(tmp_path / "a.npz", normalise="none")
    clips, _ = source.pool()
    assert source.classes == ("-1", "9", "10")
    assert [source.classes[k] for k in clips.labels] == [str(k) for k in y]


def test_statistics_are_those_of_the_training_set(tmp_path):
    x, y = values(2)
    x[..., 1] = x[..., 1] * 100 + 7
    np.savez(tmp_path / "a.npz", x=x, y=y)
    raw = Arrays(tmp_path / "a.npz", normalise="none").load(3)
    data = Arrays(tmp_path / "a.npz").load(3)
    mean = raw.train.codes.mean(axis=(0, 1), dtype=np.float64)
    std = raw.train.codes.std(axis=(0, 1), dtype=np.float64)
    np.testing.assert_allclose(data.encoding.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(data.val.codes, (raw.val.codes - mean) / std, atol=1e-5)
    each = Arrays(tmp_path / "a.npz", normalise="example").load(3)
    np.testing.assert_allclose(each.val.codes.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(each.val.codes.std(axis=1), 1, atol=1e-5)


def test_groups_are_never_divided(tmp_path):
    x, _ = values()
    group = np.repeat([f"p{i}" for i in range(12)], 2)
    np.savez(tmp_path / "a.npz", x=x, y=np.repeat(np.arange(12) % 2, 2), group=group)
    data = Arrays(tmp_path / "a.npz").load()
    tracks = [set(clips.tracks) for clips in data.sets().values()]
    assert sum(map(len, tracks)) == len(set.union(*tracks)) == 12


def test_equal_examples_are_told_and_kept_together(tmp_path):
    x, _ = values()
    x[1], x[3] = x[0], x[2]
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(N) // 2 % 2)
    with pytest.warns(UserWarning, match=r"arrays\[0\] = arrays\[1\].*the same example"):
        data = Arrays(tmp_path / "a.npz").load()
    assert "no group is in more than one set" in data.describe()


def test_a_message_names_few_of_many_copies(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((40, T)), y=np.arange(40) % 2)
    with (
        pytest.warns(UserWarning, match=r"arrays\[4\] = 35 others: the same example"),
        pytest.raises(DataError, match=r"class '0' has 1 group"),
    ):
        Arrays(tmp_path / "a.npz").load()


def test_a_file_may_be_the_test_set(tmp_path):
    x, y = values()
    other = values()[0] + 100
    np.savez(tmp_path / "train.npz", x=x, y=y)
    np.savez(tmp_path / "test.npz", x=other[:9], y=y[:9])
    options = {"test": tmp_path / "test.npz", "normalise": "none", "sizes": (2, 1, 1)}
    data = Arrays(tmp_path / "train.npz", **options).load()
    assert [len(c) for c in (data.train, data.val, data.test)] == [16, 8, 9]
    order = np.lexsort(data.test.codes[:, :, 0].T[::-1])
    wanted = other[:9][np.lexsort(other[:9].T[::-1])]
    np.testing.assert_allclose(data.test.codes[order, :, 0], wanted, rtol=1e-6)
    folded = Arrays(tmp_path / "train.npz", folds=4, fold=1, **options).load()
    assert [len(c) for c in (folded.train, folded.val, folded.test)] == [18, 6, 9]


def test_test_sets_that_do_not_fit_are_told(tmp_path):
    x, y = values()
    np.savez(tmp_path / "train.npz", x=x, y=y)
    np.savez(tmp_path / "long.npz", x=np.ones((3, T + 1)), y=y[:3])
    np.savez(tmp_path / "class.npz", x=x[:1], y=["none"])
    np.savez(tmp_path / "bare.npz", x=x[:1])
    for name, message in (("long", "7 steps"), ("class", "the class 'none'"), ("bare", "lacks")):
        with pytest.raises(DataError, match=message):
            Arrays(tmp_path / "train.npz", test=tmp_path / f"{name}.npz").load()
    with pytest.raises(ConfigError, match=r"n_clips=5 does not go with dataset.test"):
        Arrays(tmp_path / "train.npz", test=tmp_path / "bare.npz", n_clips=5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_values_that_are_no_numbers_are_told(tmp_path, value):
    x, y = values()
    x[5, 2] = value
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(DataError, match=r"a\.npz has .* in example 5, one of 1 with such"):
        read_examples(tmp_path / "a.npz")


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('/tmp/nnjit_was_unpickled').touch()",))


def npy(header_shape, dtype="<f8", data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": header_shape}
    )
    return file.getvalue() + data


def npz(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


ODD = {
    "empty.npz": (b"", "cannot be read"),
    "text.npz": (b"hello", "cannot be read"),
    "no_x.npz": (saved(a=np.zeros(3)), "has no array x, but a"),
    "flat.npz": (saved(x=np.zeros(3), y=np.zeros(3)), r"shape \(3,\): make it \(N, T\)"),
    "deep.npz": (saved(x=np.zeros((2, 3, 4, 5))), "make it"),
    "none.npz": (saved(x=np.zeros((0, 5))), "holds no examples"),
    "text_x.npz": (saved(x=np.array([["a", "b"]])), "make it numbers"),
    "complex.npz": (saved(x=np.zeros((2, 3), complex)), "make it numbers"),
    "fewer.npz": (saved(x=np.zeros((4, 3)), y=np.zeros(3)), "4 examples but 3 of y"),
    "nan_y.npz": (saved(x=np.zeros((2, 3)), y=np.array([1, np.nan])), "lacks y of example 1"),
    "matrix_y.npz": (saved(x=np.zeros((2, 3)), y=np.zeros((2, 2))), r"make it \(N,\)"),
    "pickle.npz": (
        npz(x=npy((1,), "|O", pickle.dumps([Evil()]))),
        "holds x as Python objects, which are never unpickled",
    ),
    "pickle.npy": (pickle.dumps(Evil()), "cannot be read"),
    "huge.npy": (npy((10**9, 10**9)), "does not hold that"),
    "huge.npz": (npz(x=npy((10**12, 1))), "does not hold that"),
    "negative.npy": (npy((-1, 3), data=bytes(24)), "cannot be read|does not hold"),
    "cut.npy": (npy((2, 3), data=bytes(40)), "does not hold that"),
    "latin.csv": ("t0,y\n1,ä\n2,b\n".encode("latin-1"), "latin.csv"),
    "header.csv": (b"t0,t1,y\n", "has 0 rows"),
    "empty.csv": (b"", "cannot be read"),
    "words.csv": (b"t0,t1,y\n1,two,a\n", "column 't1' of type string"),
    "gap.csv": (b"t0,t1,y\n1,2,a\n1,,b\n", "a missing value .* example 1"),
    "no_class.csv": (b"t0,y\n1,a\n1,\n", "lacks y|example"),
    "ragged.csv": (b"t0,t1,y\n1,2,a\n1,b\n", "cannot be read"),
    "twice.csv": (b"t0,t0,y\n1,2,a\n", "two columns named 't0'"),
    "only_y.csv": (b"y\na\n", "0 columns of values"),
    "text.parquet": (b"PAR1 nothing PAR1", "cannot be read"),
    "words.arff": (b"@relation a\n@attribute s string\n@data\nx\n", "no numbers|class last"),
    "gap.arff": (
        b"@relation a\n@attribute t numeric\n@attribute c {a,b}\n@data\n?,a\n1,b\n",
        "a missing value",
    ),
    "text.arff": (b"hello\n", "cannot be read|numeric|class last"),
    "unequal.ts": (
        b"@classLabel true a b\n@data\n1,2:3,4:a\n1,2,3:1,2:b\n",
        "an example, 1, whose dimensions have 2 to 3 steps",
    ),
    "zero.npz": (saved(x=np.zeros(0), lengths=np.zeros(0, int)), "holds no examples"),
    "more.npz": (saved(x=np.zeros(5), lengths=[2, 4]), "lengths that do not fit x: .* 6 steps"),
    "float.npz": (saved(x=np.zeros(5), lengths=[2.0, 3.0]), "lengths that do not fit x"),
    "long.npz": (saved(x=np.zeros((2, 3)), lengths=[4, 1]), "clip 0 has 4 steps"),
    "no_step.npz": (saved(x=np.zeros((2, 3)), lengths=[0, 1]), "clip 0 has 0 steps"),
    "nan.npz": (saved(x=[1.0, 2, np.nan], lengths=[1, 2]), "a missing value in example 1"),
    "gap.ts": (b"@classLabel true a b\n@data\n1,?,3:a\n", "missing value in example 0"),
    "targets.ts": (b"%# a\n@targetlabel true\n@data\n1,2,3:0.5\n", "numbers as targets"),
    "relational.arff": (
        b"@relation a\n@attribute r relational\n@attribute t numeric\n@end r\n"
        b"@attribute c {a,b}\n@data\n'1\\n2',a\n",
        "several dimensions",
    ),
    "times.ts": (b"@timeStamps true\n@data\n(0,1),(1,2):a\n", "time stamps"),
    "words.ts": (b"@classLabel true a\n@data\n1,b,3:a\n", "line 3, not numbers"),
    "colons.ts": (b"@classLabel true a\n@data\n1,2:3,4:a\n1,2:a\n", "numbers of dimensions"),
    "header.ts": (b"@classLabel true a\n@data\n", "no @data section with examples"),
    "early.ts": (b"1,2,3:a\n", "before @data"),
    "latin.ts": ("@data\nä:1\n".encode("latin-1"), "cannot be read"),
    "binary.ts": (bytes(range(256)), "cannot be read|before @data"),
    "words.txt": (b"1 2 x\n", "'2,x' in line 1, not numbers"),
    "class.txt": (b"a 2 3\n", "'a' in line 1, not numbers"),
    "empty.txt": (b"\n", "holds no examples"),
    "lone.txt": (b"1\n2\n", "line 1, not numbers"),
    "gap.tsv": (b"1\t2\tNaN\t3\n2\t3\t1\t1\n", "missing value in example 0"),
    "song.wav": (b"RIFF", "no known format: use .npz"),
}


@pytest.mark.parametrize("name", ODD)
def test_files_that_do_not_fit_are_told_in_one_line(tmp_path, name):
    content, message = ODD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as told:
        read_examples(tmp_path / name)
    assert "\n" not in str(told.value)
    assert name in str(told.value)


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for name in ("missing.npz", "folder.npz"):
        with pytest.raises(DataError, match=name):
            Arrays(tmp_path / name).load()


def test_one_class_and_one_example_are_told(tmp_path):
    np.savez(tmp_path / "class.npz", x=np.random.default_rng(0).normal(size=(5, 4)), y=np.ones(5))
    with pytest.raises(DataError, match="has one class, '1'"):
        Arrays(tmp_path / "class.npz").load()
    np.savez(tmp_path / "one.npz", x=np.ones((1, 4)), y=np.ones(1))
    with pytest.raises(DataError, match="has one class"):
        Arrays(tmp_path / "one.npz").load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "batch"}, "dataset.normalise=batch is unknown"),
        ({"mean": [1.0], "std": [1.0]}, "do not fit 2 features"),
        ({"mean": [1.0, 0.0], "std": [0.0, 1.0]}, "do not fit"),
        ({"normalise": "none", "mean": [1.0, 0.0], "std": [1.0, 1.0]}, "do not fit"),
    ],
)
def test_encodings_that_cannot_work_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        ArrayEncoding(5, 2, **options)


@pytest.mark.parametrize(("by", "shape"), [("row", (8, 8)), ("pixel", (64, 1))])
def test_digits(by, shape):
    data = Digits(by=by).load()
    assert len(data) == 1797
    assert data.classes == tuple("0123456789")
    assert data.encoding.inputs == Signal(*shape)
    assert [len(c) for c in data.sets().values()] == pytest.approx([898, 449, 450], abs=12)


def trained(tmp_path, **options):
    x, y = values(2)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = Arrays(tmp_path / "a.npz", **options).load()
    model = Sequential([GRU(2, return_sequences=True), Flatten(), Dense(3, "softmax")])
    toy.trainer(epochs=1, batch_size=4).fit(model, data)
    return data, Classifier.of(model, data)


@pytest.mark.parametrize("normalise", ["training", "example", "none"])
def test_the_model_file_reads_files_as_training_did(tmp_path, normalise):
    data, classifier = trained(tmp_path, normalise=normalise)
    classifier.save(tmp_path / "model.pkl")
    again = Classifier.load(tmp_path / "model.pkl")
    assert again.encoding == data.encoding
    found = again.predict_file(tmp_path / "a.npz")
    assert found.ids[:2] == ["a.npz[0]", "a.npz[1]"]
    row = int(data.train.files[0].split("[")[1][:-1])
    wanted = classifier.predict(data.train.codes)
    np.testing.assert_allclose(found.probabilities[row], wanted.probabilities[0], rtol=1e-6)


def test_prediction_refuses_examples_of_another_shape(tmp_path):
    _, classifier = trained(tmp_path)
    np.save(tmp_path / "other.npy", np.ones((2, T + 1, 2)))
    with pytest.raises(DataError, match=r"7 steps of 2 value\(s\): the model reads 6 of 2"):
        classifier.predict_file(tmp_path / "other.npy")


def test_a_model_file_of_an_unknown_kind_is_refused(tmp_path, monkeypatch):
    from nnjit.datasets import kinds

    _, classifier = trained(tmp_path)
    monkeypatch.setitem(kinds._KINDS, "future", kinds._KINDS["array"])
    monkeypatch.delitem(kinds._KINDS, "array")
    classifier.save(tmp_path / "model.pkl")
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="no encoding of kind 'future'"):
        Classifier.load(tmp_path / "model.pkl")


OURS = [c for c in (*ArrayData.__subclasses__(), Strings) if c.__module__.startswith("nnjit.")]


@pytest.mark.parametrize("data_set", OURS)
def test_each_data_set_of_examples_has_a_file_with_every_option(data_set):
    folder = Path(nnjit.__file__).parent.parent / "conf" / "dataset"
    shared = yaml.safe_load((folder / "_examples.yaml").read_text())
    own = yaml.safe_load((folder / f"{data_set.name}.yaml").read_text())
    assert own.pop("_target_") == f"nnjit.datasets.{data_set.__name__}"
    assert own.pop("defaults") == ["_examples", "_self_"]
    inits = [vars(c)["__init__"] for c in data_set.__mro__[:-1] if "__init__" in vars(c)]
    options = {name for init in inits for name in inspect.signature(init).parameters}
    assert {*own, *shared} == options - {"self", "options"}
