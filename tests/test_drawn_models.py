"""Models that Hypothesis draws: what is refused, the shapes of what flows, and their files."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from drawn import REFUSALS, built, clips, fits, padded, stacks
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import from_tiles, to_tiles

from nnjit import GRU, Dense, Sequential
from nnjit.errors import ModelFileError
from nnjit.layers import FlatCodes, Flatten, Signal
from nnjit.layers.gradients import as_array
from nnjit.storage import files

often = settings(deadline=None, max_examples=60, derandomize=True)
seldom = settings(often, max_examples=25)
numbers = st.integers(-(2**100), 2**100) | st.floats() | st.booleans() | st.none()
texts = st.text(max_size=5)
plain = st.recursive(
    numbers | texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(texts, plain, max_size=4)


@often
@given(stacks())
def test_what_does_not_fit_is_refused_in_a_line_and_nothing_else_is(drawn):
    layers, spec = drawn
    if fits(layers, spec):
        Sequential(layers).build(spec)
        return
    with pytest.raises(REFUSALS) as error:
        Sequential(layers).build(spec)
    assert "\n" not in str(error.value)


@seldom
@given(built(), st.integers(1, 18))
def test_what_flows_has_the_shapes_that_the_summary_tells(model, N):
    x, lengths = padded(model.inputs, N, np.random.default_rng(N))
    T = x.shape[1]
    tiles = to_tiles(x if x.dtype == np.uint8 else x.astype(model.dtype))
    given_lengths = {} if lengths is None else {"lengths": to_tiles(lengths)}
    for layer, told in zip(model.layers, model.shapes, strict=True):
        tiles, _ = layer.forward(tiles, **(given_lengths if layer.takes else {}))
        y, n_vector = from_tiles(tiles, N), None
        if isinstance(layer, Flatten) and y.dtype == np.uint8:
            n_vector = FlatCodes(T, model.inputs.levels).n_features
        shown = ", ".join(map(str, y.shape[1:])) if n_vector is None else f"{n_vector}"
        assert told.removesuffix(" codes").replace("T", str(T)) == f"(N, {shown})"
        assert y.dtype in (np.uint8, model.dtype)


@seldom
@given(built(), st.integers(1, 18))
def test_every_parameter_has_a_gradient_of_its_shape(model, N):
    rng = np.random.default_rng(N)
    x = clips(model.inputs, N, rng)
    logits, caches = model.forward(x, training=True, rng=rng)
    assert logits.shape == (N, model.head.units)
    gradients = model.backward(rng.normal(size=logits.shape).astype(model.dtype), caches)
    shapes = {
        layer: {name: as_array(g).shape for name, g in group.items()}
        for layer, group in gradients.items()
    }
    assert shapes == {
        layer: {name: value.shape for name, value in group.items()}
        for layer, group in model.params.items()
        if group
    }
    p = model.predict_proba(x)
    assert p.shape == logits.shape
    assert p.dtype == model.dtype
    assert np.isfinite(p).all()


def scatter(model, rng):
    """Put numbers into the weights whose bits a careless writer would lose."""
    odd = [np.nan, np.inf, -np.inf, -0.0, np.finfo(model.dtype).smallest_subnormal]
    for group in model.params.values():
        for value in group.values():
            value.flat[rng.integers(value.size)] = rng.choice(odd)


def bits(model):
    """Return everything that a file keeps of a model."""
    weights = {
        layer: {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in g.items()}
        for layer, g in model.params.items()
    }
    return model.config(), weights


@seldom
@given(built(), extras, st.integers(0, 99))
def test_a_file_keeps_every_bit(model, extra, seed):
    rng = np.random.default_rng(seed)
    x = clips(model.inputs, 5, rng)
    before = model.predict_proba(x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pkl")
        files.write(path, model, extra)
        read, more = files.read(path)
        assert bits(read) == bits(model)
        assert repr(more) == repr(extra)
        assert read.predict_proba(x).tobytes() == before.tobytes()
        scatter(model, rng)
        files.write(path, model, extra)
        assert bits(files.read(path)[0]) == bits(model)


@st.composite
def changes(draw):
    """Draw a change of bytes: others in their place, some left out, or more of them."""
    place, n_out = draw(st.floats(0, 1)), draw(st.sampled_from([0, 1, 1, 2, 9, 10**6]))
    return place, n_out, draw(st.binary(max_size=3))


@often
@given(st.lists(changes(), min_size=1, max_size=3), extras)
def test_a_file_with_other_bytes_is_the_same_model_or_refused_in_a_line(changed, extra):
    model = Sequential([GRU(2), Dense(2, "softmax")]).build(Signal(3, 1))
    extra = {"a": [1.5, "text", None], **extra}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pkl")
        files.write(path, model, extra)
        content = path.read_bytes()
        for place, n_out, more in changed:
            at = int(place * len(content))
            content = content[:at] + more + content[at + n_out :]
        path.write_bytes(content)
        told = ""
        try:
            read, found = files.read(path)
        except ModelFileError as error:
            told = str(error)
        if told:
            assert str(path) in told
            assert "\n" not in told
        else:
            assert bits(read) == bits(model)
            assert repr(found) == repr(extra)
