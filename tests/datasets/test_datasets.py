from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from nnjit.commands.reproduce import configuration
from nnjit.datasets import (
    Clips,
    Dataset,
    DataSplits,
    Encoding,
    Folder,
    Guitar,
    Karplus,
    encode_file,
)
from nnjit.datasets import guitar as guitar_module
from nnjit.errors import ConfigError, DataError, SkippedFileWarning

CONF = Path(__file__).parents[2] / "conf" / "dataset"


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def folder(root, **options):
    options = {"n_clips": None, "rate": 4000, "cache_dir": None} | options
    return Folder(root, **options)


def test_guitar_is_balanced_and_honest(cache_dir):
    splits = Guitar(cache_dir=cache_dir).load(0)
    assert splits.classes == ("carlos_viola", "el_senator")
    assert splits.positive == 1
    assert splits.encoding == Encoding()
    assert {name: len(clips) for name, clips in splits.sets().items()} == {
        "train": 128,
        "val": 64,
        "test": 64,
    }
    files = [file for clips in splits.sets().values() for file in clips.files]
    assert {files.count(file) for file in files} == {32}
    assert len(set(files)) == 8
    sides = [set(clips.tracks) for clips in splits.sets().values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    for counts in splits.balance().values():
        assert len(set(counts.values())) == 1
    text = splits.describe()
    assert text.startswith("guitar: all 256 clips of 10000 steps")
    assert "majority baseline 0.500" in text
    assert "no track is in more than one set" in text


def test_seeds_0_1_and_none(cache_dir):
    guitar = Guitar(cache_dir=cache_dir)
    digests = [guitar.load(0).digest, guitar.load(0).digest, guitar.load(1).digest]
    assert digests[0] == digests[1] == Guitar(cache_dir=None).load(0).digest
    assert digests[2] != digests[0]
    assert len({guitar.load(None).digest for _ in range(3)}) == 3
    with pytest.raises(ConfigError, match="seed=-1"):
        guitar.load(-1)


def test_the_split_of_the_seed_project(cache_dir):
    options = {"split": "clip", "stratify": False, "sizes": [2, 1, 0], "encoding": "ceil"}
    splits = Guitar(cache_dir=cache_dir, **options).load(1)
    assert (len(splits.train), len(splits.val), splits.test) == (171, 85, None)
    assert "sets share tracks" in splits.describe()
    assert list(splits.sets()) == ["train", "val"]


@pytest.mark.parametrize("rate", [10_000, None])
def test_prediction_encodes_as_training(cache_dir, rate):
    splits = Guitar(cache_dir=cache_dir, rate=rate).load(0)
    assert splits.encoding.rate == (rate or 44_100)
    clips = splits.train
    path = Path(guitar_module.__file__).parent / "data" / "guitar" / clips.files[0]
    codes, offsets = encode_file(path, splits.encoding)
    mine = [i for i, file in enumerate(clips.files) if file == clips.files[0]]
    assert len(mine) == len(codes) == 32
    for i in mine:
        at = int(np.flatnonzero(offsets == clips.offsets[i])[0])
        assert np.array_equal(clips.codes[i], codes[at])
        assert clips.ids[i] == f"{clips.files[0]}@{at}.0s"


def test_every_bundled_second_holds_music(cache_dir):
    every = Guitar(cache_dir=cache_dir, n_clips=None, levels=256).load(0)
    for clips in every.sets().values():
        assert clips.codes.std(axis=1).min() > 5  # of 256 levels


def test_folds_of_a_data_set_partition_it(cache_dir):
    vals = [Guitar(cache_dir=cache_dir, folds=4, fold=i).load(0).val for i in range(4)]
    assert sorted(i for val in vals for i in val.ids) == sorted(
        i for clips in Guitar(cache_dir=cache_dir).load(0).sets().values() for i in clips.ids
    )


def test_more_clips_than_there_are(two_authors):
    with pytest.warns(UserWarning, match=r"n_clips=100, but folder has 18 clips"):
        splits = folder(two_authors, n_clips=100).load(0)
    assert splits.digest == folder(two_authors).load(0).digest


def test_n_clips_draws(two_authors):
    some = folder(two_authors, n_clips=9, split="clip", sizes=(1, 0, 0)).load(0)
    assert len(some.train) == 9
    assert len(set(some.train.ids)) == 9
    with pytest.raises(DataError, match=r"class '[ab]' of folder has no clips left: raise"):
        folder(two_authors, n_clips=1).load(0)


def test_three_classes_and_a_positive(two_authors, write):
    for track in range(3):
        write(f"root/c/deep/{track}.flac")
    splits = folder(two_authors, positive="c").load(0)
    assert splits.classes == ("a", "b", "c")
    assert splits.positive == 2
    assert "c/deep/0.flac" in {f for clips in splits.sets().values() for f in clips.files}
    assert folder(two_authors, positive=0).load(0).positive == 0
    for bad in ("d", 3, -1):
        with pytest.raises(ConfigError, match=f"dataset.positive={bad} .*use a, b, c"):
            folder(two_authors, positive=bad).load(0)


def test_true_and_false_folders(two_authors, write):
    for track in range(3):
        write(f"root/c/{track}.wav")
    splits = folder(two_authors, true="b", false=str(two_authors / "c")).load(0)
    assert splits.classes == ("c", "b")
    assert {f[0] for f, y in zip(splits.train.files, splits.train.labels, strict=True) if y} == {
        "b"
    }
    with pytest.raises(ConfigError, match="set two folders, or neither"):
        folder(two_authors, true="b")
    with pytest.raises(ConfigError, match=r"dataset\.false=b: the folders .*/b and .*/b overlap"):
        folder(two_authors, true="b", false="b")
    with pytest.raises(DataError, match="nobody does not exist"):
        folder(two_authors, true="b", false="nobody").load(0)


def test_bad_files_are_named_and_the_rest_goes_on(two_authors, write):
    clean = folder(two_authors).load(0).digest
    (two_authors / "a" / "notes.txt").write_text("not tried")
    (two_authors / "a" / ".hidden.wav").write_text("not tried")
    assert folder(two_authors).load(0).digest == clean
    write("root/a/silent.wav", np.zeros(9000))
    write("root/a/short.wav", seconds=0.1)
    (two_authors / "b" / "text.wav").write_text("no sound")
    with pytest.warns(SkippedFileWarning) as caught:
        splits = folder(two_authors).load(0)
    assert [str(w.message).split()[0] for w in caught] == [
        "a/short.wav",
        "a/silent.wav",
        "b/text.wav",
    ]
    assert splits.digest == clean


def test_a_class_or_all_left_out(two_authors):
    for path in (two_authors / "b").iterdir():
        path.write_text("no sound")
    with (
        pytest.warns(SkippedFileWarning),
        pytest.raises(DataError, match="class 'b' of folder has no clips left"),
    ):
        folder(two_authors).load(0)
    with pytest.warns(SkippedFileWarning), pytest.raises(DataError, match="none of the 6"):
        folder(two_authors, duration=1000).load(0)


def test_folders_that_do_not_work(tmp_path, write):
    with pytest.raises(DataError, match="is no folder"):
        folder(tmp_path / "missing")
    write("root/a/0.wav")
    with pytest.raises(DataError, match=r"1 sub-folder\(s\)"):
        folder(tmp_path / "root")
    (tmp_path / "root" / "b").mkdir()
    with pytest.raises(DataError, match="b holds no recordings"):
        folder(tmp_path / "root").load(0)


def test_rate_null_wants_one_rate(two_authors, write):
    assert folder(two_authors, rate=None).load(0).encoding.rate == 8000
    write("root/a/other.wav", rate=16_000)
    with pytest.raises(DataError, match=r"8000 Hz \(.*16000 Hz \(a/other\.wav\).*set dataset.rate"):
        folder(two_authors, rate=None).load(0)


@pytest.mark.parametrize(
    "options",
    [
        {"n_clips": 0},
        {"n_clips": 2.5},
        {"rate": -1},
        {"duration": 0},
        {"levels": 1},
        {"encoding": "x"},
        {"resampler": "x"},
        {"split": "x"},
        {"sizes": [0, 1, 1]},
        {"stratify": 1},
        {"folds": 1},
        {"folds": 2, "fold": 2},
    ],
)
def test_bad_options_name_their_key(options):
    with pytest.raises(ConfigError, match=rf"^dataset\.{list(options)[-1]}=.*: "):
        Guitar(**options)


def test_take_keeps_everything_together(rng):
    clips = Clips(
        rng.integers(0, 16, (4, 5), dtype=np.uint8), np.arange(4), tuple("abcd"), tuple("xxyy"),
        np.arange(4) / 10,
    )  # fmt: skip
    taken = clips.take([3, 0])
    assert len(taken) == 2
    assert taken.ids == ["d@0.3s", "a@0.0s"]
    assert taken.tracks == ("y", "x")
    assert np.array_equal(taken.codes, clips.codes[[3, 0]])
    assert len(clips.take([])) == 0


def brightness(codes):
    """Share of the power above 1 kHz, which knows nothing of the mean or the loudness."""
    power = np.abs(np.fft.rfft(codes - codes.mean(axis=1, keepdims=True), axis=1)) ** 2
    return power[:, power.shape[1] // 5 :].sum(axis=1) / power.sum(axis=1)


def test_karplus_is_deterministic_and_can_be_told_apart():
    splits = Karplus(n_clips=128).load(0)
    assert splits.digest == Karplus(n_clips=128).load(0).digest
    assert splits.digest != Karplus(n_clips=128, data_seed=1).load(0).digest
    assert splits.balance()["train"] == {"nylon": 32, "steel": 32}
    train = brightness(splits.train.codes.astype(float))
    threshold = np.median(train)
    test = brightness(splits.test.codes.astype(float)) > threshold
    assert (test == splits.test.labels).mean() > 0.9
    means = splits.train.codes.mean(axis=1)
    assert abs(means[splits.train.labels == 0].mean() - means[splits.train.labels == 1].mean()) < 2


def test_karplus_any_size_and_rate():
    splits = Karplus(n_tracks=3, n_clips=100, rate=44_100, duration=0.25).load(0)
    assert sum(map(len, splits.sets().values())) == 100
    assert splits.train.codes.shape[1] == 11_025
    for options in ({"rate": None}, {"n_clips": None}, {"n_tracks": 0}, {"data_seed": None}):
        with pytest.raises(ConfigError, match=f"dataset.{next(iter(options))}="):
            Karplus(**options)


OURS = [c for c in Dataset.__subclasses__() if c.__module__.startswith("nnjit.")]  # not of tests


@pytest.mark.parametrize("data_set", OURS)
def test_each_data_set_has_a_file_with_every_option(data_set):
    shared = yaml.safe_load((CONF / "_shared.yaml").read_text())
    own = yaml.safe_load((CONF / f"{data_set.name}.yaml").read_text())
    assert own.pop("_target_") == f"nnjit.datasets.{data_set.__name__}"
    assert own.pop("defaults") == ["_shared", "_self_"]
    base = Dataset.__init__.__kwdefaults__
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in shared.items()} == base
    code = data_set.__init__.__code__
    named = set(code.co_varnames[1 : code.co_argcount])
    assert set(own) == (named if data_set.__init__ is not Dataset.__init__ else set())


def test_hydra_composes_and_builds_each(tmp_path):
    for author in "ab":
        (tmp_path / author).mkdir()
    with initialize_config_dir(str(CONF.parent), version_base=None):
        for data_set in OURS:
            root = [f"dataset.root={tmp_path}"] if data_set is Folder else []
            overrides = ["dataset.levels=4", "dataset.sizes=[2,1,0]", *root]
            built = instantiate(compose(f"dataset/{data_set.name}", overrides).dataset)
            assert isinstance(built, data_set)
            assert (built.encoding.levels, built.sizes) == (4, (2, 1, 0))


@pytest.mark.parametrize("other", ["mine", "mine/", "./mine", ".", "mine/deeper"])
def test_folders_that_overlap_are_refused(tmp_path, other):
    (tmp_path / "mine" / "deeper").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"dataset\.true=mine and dataset\.false="):
        Folder(tmp_path, true="mine", false=other)


def test_recordings_of_unequal_length_divide_as_asked(tmp_path, write):
    """A draw by the number of recordings left 41 clips for testing, 40 of them of one class."""
    lengths = {"a": [60, 50, 32, 18, 14, 10, 9], "b": [92, 45, 21, 15, 9, 6, 5]}
    for author, seconds in lengths.items():
        for track, length in enumerate(seconds):
            write(f"root/{author}/{track}.wav", seconds=length / 4, rate=400)
    options = {"rate": 400, "duration": 0.25, "n_clips": 256}
    for seed in range(5):
        splits = folder(tmp_path / "root", **options).load(seed)
        for name, n in (("train", 128), ("val", 64), ("test", 64)):
            counts = list(splits.balance()[name].values())
            assert abs(sum(counts) - n) < 0.15 * n
            assert min(counts) > 0.35 * sum(counts)
    text = splits.describe()
    assert text.startswith("folder: 256 of 386 clips, each of 100 steps")
    for name, n in (("train", 128), ("val", 64), ("test", 64)):
        got = len(splits.sets()[name])
        line = next(line for line in text.splitlines() if name in line)
        assert f"{got} clips" + f" ({n} asked)" * (got != n) + ": a " in line


def test_a_set_far_from_what_was_asked_is_told(tmp_path, write):
    for track, length in enumerate([40, 3, 2]):
        write(f"root/a/{track}.wav", seconds=length / 4, rate=400)
        write(f"root/b/{track}.wav", seconds=5, rate=400)
    options = {"rate": 400, "duration": 0.25}
    told = (
        r"folder does not divide by track as asked: train has 60 clips \(52 asked\)|"
        r"val has .*of its .* clips of class 'a' \(\d+ in proportion\).*: add recordings, "
        r"change dataset.sizes, or set dataset.split=clip"
    )
    with pytest.warns(UserWarning, match=told):
        folder(tmp_path / "root", **options).load(0)
    folder(tmp_path / "root", split="clip", **options).load(0)


def test_a_set_of_one_class_is_told(rng):
    codes = rng.integers(0, 16, (60, 4), dtype=np.uint8)
    names = tuple(f"{i}" for i in range(60))
    every = Clips(codes, np.repeat([0, 1], 30), names, names, np.zeros(60))
    parts = [every.take(part) for part in (range(10, 50), range(10), range(50, 60))]
    splits = DataSplits(*parts, ("a", "b"), 1, Encoding(rate=4), "toy", 60, (0.5, 0.25, 0.25))
    assert splits.uneven() == (
        "val has 0 of its 10 clips of class 'b' (5 in proportion); "
        "test has 0 of its 10 clips of class 'a' (5 in proportion)"
    )
    parts = [every.take(range(k, 60, 3)) for k in range(3)]
    splits = DataSplits(*parts, ("a", "b"), 1, Encoding(rate=4), "toy", 60, (0.1, 0.1, 0.8))
    assert splits.uneven() == (
        "train has 20 clips (6 asked); val has 20 clips (6 asked); test has 20 clips (48 asked)"
    )


@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (1, "f983381bfedf2adc"),
        (2, "974481e48a3cb2f7"),
        (3, "6c24602256b28946"),
        (4, "9bd1c9b952f26ec8"),
        (5, "e16dc0f715b06399"),
        (6, "6dae337fe8c03b3a"),
    ],
)
def test_the_splits_of_the_default_data_set_stay(cache_dir, seed, digest):
    assert Guitar(cache_dir=cache_dir).load(seed).digest == digest


@pytest.mark.parametrize("given", ["1", 1])
def test_the_name_of_a_class_wins_over_a_label(tmp_path, write, given):
    for name in "12":
        for track in range(3):
            write(f"root/{name}/{track}.wav")
    data = folder(tmp_path / "root", positive=given)
    if given == "1":
        splits = data.load(0)
    else:
        told = r"positive=1 is taken as the class named 1 \(label 0\), not as label 1 \(class '2'\)"
        with pytest.warns(UserWarning, match=told):
            splits = data.load(0)
    assert splits.positive == 0
    assert folder(tmp_path / "root", positive=0).load(0).positive == 0


ODD_NAMES = ["true", "FALSE", "1e3", "2024_01", "on", "null", "C#", "1"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_read_as_something_else(tmp_path, write, name, monkeypatch):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for track in range(3):
        write(f"{name}/{name}/{track}.wav")
        write(f"{name}/other/{track}.wav")
    monkeypatch.chdir(tmp_path)
    text = f'"{name}"' if name in ("null", "C#") else name  # which Hydra cannot tell from no value
    read = OverridesParser.create().parse_override(f"x={text}").value()
    splits = folder(read, true=read, false="other", positive=read).load(0)
    assert splits.classes == ("other", name)
    assert splits.positive == 1


def test_a_root_of_such_a_name_is_found_from_another_folder(tmp_path):
    """A recorded run may be trained again in another folder than it began in."""
    (tmp_path / "1e3").mkdir()
    with initialize_config_dir(str(CONF.parent), version_base=None):
        cfg = compose("config", ["dataset=folder", "dataset.root=1e3", "seed=1"])
    recorded = OmegaConf.to_container(cfg, resolve=True)
    assert configuration(recorded, {}, str(tmp_path)).dataset.root == str(tmp_path / "1e3")


def test_names_that_read_alike_are_to_be_quoted(tmp_path):
    for name in ("1e3", "1_0e2", "b"):
        (tmp_path / name).mkdir()
    told = r"""dataset.true=1000.0 may be 1_0e2 or 1e3: quote .*'dataset.true="1_0e2"'"""
    with pytest.raises(ConfigError, match=told):
        Folder(tmp_path, true=1000.0, false="b")
    with pytest.raises(ConfigError, match=r"""named null is written 'dataset.true="null"'"""):
        Folder(tmp_path, false="b")


def test_classes_that_differ_in_spelling_alone_are_told(tmp_path):
    for name in ("Caf\u00e9", "Cafe\u0301"):
        (tmp_path / name).mkdir()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("one name to this file system")
    with pytest.warns(UserWarning, match="differ in the spelling of one name alone"):
        Folder(tmp_path)


def test_two_class_folders_that_are_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match=r"^the folders .*/a and .*/b overlap: a recording must"):
        Folder(tmp_path)
