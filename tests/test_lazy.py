import numpy as np
import pytest

from nnjit import GRU, Dense, Sequential
from nnjit.errors import ShapeError
from nnjit.layers import Codes, Signal
from nnjit.layers.gradients import as_array
from nnjit.lazy import LazyClips


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 16, (n, 7)).astype(np.uint8) for n in (3, 1, 40, 5)]


def test_what_is_read_is_what_the_array_holds(parts):
    whole, lazy = np.concatenate(parts), LazyClips(parts)
    assert (lazy.shape, lazy.dtype, lazy.ndim) == (whole.shape, whole.dtype, 2)
    assert (len(lazy), lazy.size, lazy.nbytes) == (49, 343, 343)
    order = np.random.default_rng(1).permutation(49)[:30]
    for index in (0, 48, -1, np.int64(4), slice(None), slice(2, 9, 3), slice(0, 0), order):
        assert np.array_equal(lazy[index], whole[index])
        assert lazy[index].dtype == np.uint8
    taken = lazy.take(order).take([5, 0, 5])
    assert np.array_equal(taken, whole[order][[5, 0, 5]])
    assert np.array_equal(np.asarray(lazy.astype(float)), whole.astype(float))
    assert lazy.astype(np.uint8) is lazy


def test_chunks_are_all_clips(parts, monkeypatch):
    monkeypatch.setattr("nnjit.lazy._AT_ONCE", 70)
    whole, lazy = np.concatenate(parts), LazyClips(parts)
    taken = lazy.take(np.random.default_rng(1).permutation(49))
    chunks = list(taken.chunks())
    assert max(map(len, chunks)) == 10
    assert np.array_equal(np.concatenate(chunks), taken)
    assert np.array_equal(np.concatenate(list(taken.chunks(any_order=True))), whole)


def test_functions_are_of_what_is_read(parts):
    signals = LazyClips([part[..., None].astype(np.float32) for part in parts])
    both = signals.map(lambda x: x + 1).astype(np.float64).map(np.sqrt).take([48, 3])
    assert both.dtype == np.float64
    expected = np.sqrt((np.concatenate(parts)[[48, 3]] + 1).astype(np.float64))
    assert np.array_equal(both[:][..., 0], expected)


def test_an_array_of_them_is_a_copy(parts):
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(LazyClips(parts), copy=False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inputs", [Codes(7, 16), Signal(7, 1)])
def test_a_model_gives_the_same_bits(parts, inputs, dtype):
    if isinstance(inputs, Signal):
        parts = [part[..., None].astype(np.float32) for part in parts]
    whole, lazy = np.concatenate(parts), LazyClips(parts)
    model = Sequential([GRU(5), Dense(2, "softmax")], dtype).build(inputs)
    assert np.array_equal(model.predict_proba(lazy), model.predict_proba(whole))
    rows, labels = np.array([40, 2, 2, 17, 8]), np.array([0, 1, 1, 0, 1])
    found = []
    for data in (lazy, whole):
        logits, caches = model.forward_rows(model.check(data), rows, training=True)
        gradients = model.backward(np.eye(2, dtype=dtype)[labels] - logits, caches)
        arrays = [as_array(g) for group in gradients.values() for g in group.values()]
        found.append([logits, *arrays])
    assert all(map(np.array_equal, *found))


def test_a_model_checks_them(parts):
    model = Sequential([GRU(5), Dense(2, "softmax")]).build(Codes(7, 10))
    with pytest.raises(ShapeError, match="knows codes 0 to 9, got 0 to 15"):
        model.predict_proba(LazyClips(parts))
    with pytest.raises(ShapeError, match=r"\(N, 7\)"):
        model.predict_proba(LazyClips([part[:, 1:] for part in parts]))
