import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnjit.datasets.balance import Goal, closest
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


def test_a_class_missing_from_training_has_a_remedy_that_works():
    labels, tracks = [0] * 5 + [1] * 3, list("abcdefgh")
    with pytest.raises(DataError, match=r"no clip of class 1, .*: set dataset\.stratify=true"):
        split(labels, tracks, "clip", (2, 1, 1), False)
    assert is_partition(split(labels, tracks, "clip", (2, 1, 1), True), 8)
    with pytest.raises(DataError, match=r"has 1 .*: raise dataset.n_clips, or add recordings$"):
        split([0, 0, 0, 1], list("abcd"), "clip", (2, 1, 1), False)


@pytest.mark.parametrize("n_tracks", [1, 2])
@pytest.mark.parametrize(("n_clips", "by_clip"), [(1, False), (9, True)])
def test_remedies_for_too_few_tracks(n_tracks, n_clips, by_clip):
    labels = [0] * 20 + [1] * (n_tracks * n_clips)
    tracks = [f"0/{i}" for i in range(20)] + [f"1/{i % n_tracks}" for i in range(len(labels) - 20)]
    with pytest.raises(DataError) as error:
        split(labels, tracks)
    assert "add recordings" in str(error.value)
    assert ("split=clip" in str(error.value)) == by_clip
    assert ("set 1 of dataset.sizes to 0" in str(error.value)) == (n_tracks == 2)
    if by_clip:
        split(labels, tracks, "clip")
    if n_tracks == 2:
        split(labels, tracks, "track", (2, 1, 0))


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


# Recordings of two classes, as they are found: a few long ones, many short ones.
UNEQUAL = [(0, 40), (0, 33), (0, 21), (0, 12), (0, 9), (0, 7), (0, 6)]
UNEQUAL += [(1, 61), (1, 30), (1, 14), (1, 10), (1, 6), (1, 4), (1, 3)]


def of_tracks(tracks):
    """Labels and names of clips, from (label, number of clips) of each track."""
    labels = np.repeat([label for label, _ in tracks], [n for _, n in tracks])
    return labels, [f"{i:03}" for i, (_, n) in enumerate(tracks) for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_unequal_tracks_come_out_as_asked(seed):
    labels, tracks = of_tracks(UNEQUAL)
    for part, n in zip(split(labels, tracks, seed=seed), (128, 64, 64), strict=True):
        assert abs(len(part) - n) <= 0.1 * n
        assert np.abs(np.bincount(labels[part]) - n / 2).max() <= 0.1 * n / 2


@pytest.mark.parametrize(("folds", "best"), [(2, [64, 64]), (3, [33, 34, 61])])
def test_folds_of_unequal_tracks_are_equal(folds, best):
    labels, tracks = of_tracks(UNEQUAL)
    vals = [split(labels, tracks, folds=folds, fold=fold)[1] for fold in range(folds)]
    assert is_partition(vals, len(labels))
    counts = np.array([np.bincount(labels[val]) for val in vals])
    assert np.abs(counts[:, 0] - 128 / folds).max() <= 0.15 * 128 / folds
    # One track has 61 of the 128 clips of class 1: three folds cannot be equal.
    assert np.abs(np.sort(counts[:, 1]) - best).max() <= 0.1 * 128 / folds


def test_without_stratify_the_sizes_alone_count():
    labels, tracks = of_tracks([(0, 40), (0, 30), (0, 20), (0, 10), (1, 4), (1, 8), (1, 16)])
    for part, n in zip(split(labels, tracks, stratify=False), (64, 32, 32), strict=True):
        assert abs(len(part) - n) <= 0.1 * n


def test_a_class_of_one_track_is_trained_on_where_it_need_not_be_everywhere():
    labels, tracks = of_tracks([(0, 8)] * 6 + [(1, 8)])
    for seed in range(10):
        train, _, _ = split(labels, tracks, stratify=False, seed=seed)
        assert set(labels[train]) == {0, 1}


def test_draws_that_are_near_enough_stay_random():
    labels, tracks = of_tracks([(label, n) for label in (0, 1) for n in [19, 20, 20, 21] * 3])
    seen = {tuple(split(labels, tracks, seed=seed)[2]) for seed in range(20)}
    assert len(seen) > 15


def test_many_classes_are_quick_and_complete():
    rng = np.random.default_rng(0)
    labels, tracks = of_tracks(
        [(i % 40, 1 + int(n)) for i, n in enumerate(rng.geometric(0.1, 160))]
    )
    for part in split(labels, tracks):
        assert set(labels[part]) == set(range(40))


tracks_of_classes = st.lists(
    st.lists(st.integers(1, 40), min_size=3, max_size=7), min_size=1, max_size=3
)
three_sizes = st.sampled_from([(2, 1, 1), (8, 1, 1), (2, 1, 0), (1, 0, 1), (0.5, 0.3, 0.2)])


@settings(max_examples=30, derandomize=True, deadline=None)
@given(tracks_of_classes, three_sizes, st.booleans(), st.integers(0, 2**32), st.booleans())
def test_any_split_by_track(lengths, sizes, stratify, seed, mixed):
    labels, tracks = of_tracks([(k, n) for k, of_class in enumerate(lengths) for n in of_class])
    if mixed:  # the first track has a clip of another class too
        labels, tracks = np.append(labels, len(lengths) - 1), [*tracks, tracks[0]]
    parts = split(labels, tracks, "track", sizes, stratify, seed=seed)
    assert is_partition(parts, len(labels))
    sides = [{tracks[i] for i in part} for part in parts]
    assert sum(map(len, sides)) == len(set(tracks))
    for part, size in zip(parts, sizes, strict=True):
        assert (len(part) > 0) == (size > 0)
        if size and stratify:
            assert set(labels[part]) == set(labels)
    assert set(labels[parts[0]]) == set(labels)
    again = split(labels, tracks, "track", sizes, stratify, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@settings(max_examples=30, derandomize=True, deadline=None)
@given(tracks_of_classes, st.integers(2, 3), st.booleans(), st.integers(0, 2**32))
def test_any_folds_by_track(lengths, folds, stratify, seed):
    labels, tracks = of_tracks([(k, n) for k, of_class in enumerate(lengths) for n in of_class])
    try:
        parts = [
            split(labels, tracks, "track", (1, 1, 1), stratify, folds, fold, seed=seed)
            for fold in range(folds)
        ]
    except DataError:
        assert not stratify  # the only tracks of a class may lie in one fold
        return
    assert is_partition([val for _, val, _ in parts], len(labels))
    for train, val, test in parts:
        assert len(val) > 0
        assert len(test) == 0
        assert not {tracks[i] for i in train} & {tracks[i] for i in val}
        if stratify:
            assert set(labels[val]) == set(labels)


few_tracks = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 40), st.integers(0, 3)), min_size=6, max_size=8
)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    few_tracks, st.sampled_from([(2, 1, 1), (8, 1, 1), (1, 1)]), st.booleans(), st.integers(0, 9)
)
def test_nothing_comes_closer_than_what_is_found(tracks, sizes, stratify, seed):
    counts = np.zeros((len(tracks), 3))
    for row, (label, n, of_other) in zip(counts, tracks, strict=True):
        row[[label, 1 - label, 2]] = n, of_other, n + of_other
    counts = counts[:, counts.any(axis=0)]
    goal = Goal.of(counts, np.array(sizes) / sum(sizes), stratify, train_first=True)
    every = np.array(list(itertools.product(range(len(sizes)), repeat=len(tracks))))
    held = np.stack([(every == s).astype(float) @ counts for s in range(len(sizes))], axis=1)
    best = min(map(goal.distance, held))
    rng = np.random.default_rng(seed)
    found = closest(lambda: rng.integers(0, len(sizes), len(tracks)), counts, goal)
    reached = held[(every == found).all(axis=1)][0]
    assert goal.is_met(reached) or goal.distance(reached) <= best * (1 + 1e-9)
