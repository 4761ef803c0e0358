import numpy as np
import pytest

from nnjit.datasets.split import split_indices
from nnjit.errors import ConfigError, DataError


def clips(tracks_per_class, clips_per_track=8):
    """Labels and tracks of evenly filled recordings."""
    labels, tracks = [], []
    for label, n_tracks in enumerate(tracks_per_class):
        for track in range(n_tracks):
            labels += [label] * clips_per_track
            tracks += [f"{label}/{track}"] * clips_per_track
    return np.array(labels), tracks


def split(labels, tracks, *options, seed=0, **named):
    return split_indices(labels, tracks, *options, **named, rng=np.random.default_rng(seed))


def is_partition(parts, n):
    return np.sort(np.concatenate(parts)).tolist() == list(range(n))


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("sizes", [(2, 1, 0), (2 / 3, 1 / 3, 0), (4, 2, 0)])
def test_the_sizes_of_the_seed(stratify, sizes):
    labels, tracks = clips([4, 4], 32)
    parts = split(labels, tracks, "clip", sizes, stratify)
    assert [len(part) for part in parts] == [171, 85, 0]
    assert is_partition(parts, 256)


def test_clips_in_order():
    labels, tracks = [0, 1] * 5, ["a"] * 10
    parts = split(labels, tracks, "clip", (0.5, 0.3, 0.2), False)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]


COUNTS = [(4, 4), (3, 3), (3, 9), (5, 4, 7), (12, 3)]


@pytest.mark.parametrize(
    ("counts", "stratify"), [(counts, True) for counts in COUNTS] + [((20, 20), False)]
)
@pytest.mark.parametrize("sizes", [(2, 1, 1), (98, 1, 1), (8, 1, 0), (1, 0, 1)])
def test_no_track_on_both_sides(counts, sizes, stratify):
    labels, tracks = clips(counts)
    parts = split(labels, tracks, "track", sizes, stratify, seed=0)
    assert is_partition(parts, len(labels))
    sides = [{tracks[i] for i in part} for part in parts]
    assert sum(map(len, sides)) == sum(counts)
    for part, size in zip(parts, sizes, strict=True):
        assert (len(part) > 0) == (size > 0)
        if stratify and size:
            assert set(labels[part]) == set(range(len(counts)))


def test_four_tracks_per_author_are_dealt_2_1_1():
    labels, tracks = clips([4, 4])
    for part, n in zip(split(labels, tracks), (2, 1, 1), strict=True):
        assert np.bincount(labels[part]).tolist() == [8 * n, 8 * n]


def test_stratified_clips_keep_the_proportions():
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    for part, n in zip(
        split(labels, ["x"] * 1000, "clip", (6, 2, 2)), (600, 200, 200), strict=True
    ):
        assert len(part) == n
        assert np.abs(np.bincount(labels[part]) / n - [0.7, 0.2, 0.1]).max() < 0.01


@pytest.mark.parametrize("by", ["clip", "track"])
@pytest.mark.parametrize("folds", [2, 3, 4])
def test_folds_partition(by, folds):
    labels, tracks = clips([4, 5])
    vals = []
    for fold in range(folds):
        train, val, test = split(labels, tracks, by, folds=folds, fold=fold)
        assert len(test) == 0
        assert is_partition([train, val], len(labels))
        assert set(labels[val]) == {0, 1}
        if by == "track":
            assert not {tracks[i] for i in train} & {tracks[i] for i in val}
        vals.append(val)
    assert is_partition(vals, len(labels))
    if by == "clip":
        assert max(map(len, vals)) - min(map(len, vals)) <= 1


def test_the_generator_decides():
    labels, tracks = clips([6, 6])
    same = [split(labels, tracks, seed=0)[0].tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert any(split(labels, tracks, seed=s)[0].tolist() != same[0] for s in range(1, 5))


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ((2, 4), {}, r"class 'x' has 2 track\(s\), too few for 3 sets: set dataset.split=clip"),
        ((1, 4), {"sizes": (1, 1, 0)}, "class 'x' has 1 track"),
        ((3, 5), {"folds": 4}, "class 'x' .* too few for 4 folds: .*lower dataset.folds"),
        ((1, 1), {"stratify": False}, "the data set has 2 track"),
    ],
)
def test_too_few_tracks(counts, options, message):
    with pytest.raises(DataError, match=message):
        split(*clips(counts), classes=("x", "y"), **options)


def test_a_class_missing_from_training():
    with pytest.raises(DataError, match=r"no clip of class 1: set dataset\.stratify=true"):
        split([0, 0, 0, 1], list("abcd"), "clip", (2, 1, 1), False)


@pytest.mark.parametrize(
    "options",
    [
        {"by": "artist"},
        {"sizes": (0, 1, 1)},
        {"sizes": (1, 1)},
        {"sizes": (1, -1, 0)},
        {"sizes": (1, float("nan"), 0)},
        {"sizes": "abc"},
        {"sizes": None},
        {"stratify": "yes"},
        {"folds": 1},
        {"folds": 3, "fold": 3},
    ],
)
def test_bad_options(options):
    with pytest.raises(ConfigError, match=r"^dataset\.\w+="):
        split([0, 1], ["a", "b"], **options)
