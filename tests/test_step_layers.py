"""Layers over the steps of sequences: every row of the registry, on one length and on any."""

import naive
import numpy as np
import pytest
import torch
import twins
from omegaconf import OmegaConf
from registry import (
    FEATURES,
    LEVELS,
    STEP_LAYERS,
    as_signal,
    assert_gradient,
    both_dtypes,
    both_inputs,
    both_outputs,
    build,
    every_cell,
    every_step_layer,
    forward,
    forward_backward,
    from_tiles,
    inputs,
    to_tiles,
)

import nnjit
from nnjit import Dense, GlobalAveragePooling1D, Sequential
from nnjit.config.build import build as from_configuration
from nnjit.errors import ConfigError, ShapeError
from nnjit.layers import (
    LAYERS,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Bptt,
    Codes,
    Conv1D,
    Embedding,
    GaussianNoise,
    LayerNormalization,
    MaxPooling1D,
    Signal,
    SpatialDropout1D,
    Vector,
)
from nnjit.layers.gradients import as_array
from nnjit.runtime import threads
from nnjit.storage.files import weights_digest
from nnjit.training.checkpoint import TrainingState

any_length = pytest.mark.parametrize(
    "row", [row for row in STEP_LAYERS if row.any_length], ids=lambda row: row.name
)
batches = pytest.mark.parametrize(("N", "T"), [(1, 9), (16, 70), (33, 20)])


@pytest.mark.interpreted
@every_step_layer
@batches
def test_outputs_of_the_naive_form_and_gradients_of_torch(row, N, T, rng):
    layer, x = build(row.layer(), Signal(T, FEATURES)), rng.normal(size=(N, T, FEATURES))
    expected = row.naive(x, **layer.params)
    dy = rng.normal(size=expected.shape)
    y, dx, grads = forward_backward(layer, x, dy)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)

    params, signal = twins.leaves(layer.params), torch.tensor(x, requires_grad=True)
    theirs = row.torch(signal, **params)
    theirs.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, theirs.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, signal.grad, rtol=0, atol=1e-11)
    trained = {name for name, p in params.items() if p.grad is not None}
    assert set(grads) == trained
    for name in trained:
        np.testing.assert_allclose(grads[name], params[name].grad, rtol=0, atol=1e-10)


@every_step_layer
def test_gradients_are_the_differences(row, rng):
    layer, x = build(row.layer(), Signal(12, FEATURES)), rng.normal(size=(18, 12, FEATURES))
    dy = rng.normal(size=forward(layer, x).shape)
    _, dx, grads = forward_backward(layer, x, dy)

    def f():
        return (forward(layer, x, training=True) * dy).sum()

    assert_gradient(f, x, dx, rng)
    for name, gradient in grads.items():
        assert_gradient(f, layer.params[name], gradient, rng)


@every_step_layer
@both_dtypes
def test_dtypes_are_kept(row, dtype, rng):
    layer = build(row.layer(), Signal(40, FEATURES), dtype)
    x = rng.normal(size=(5, 40, FEATURES)).astype(dtype)
    y, dx, grads = forward_backward(layer, x, forward(layer, x))
    assert {a.dtype for a in (y, dx, *grads.values())} == {np.dtype(dtype)}
    expected = row.naive(x.astype(float), **{k: v.astype(float) for k, v in layer.params.items()})
    np.testing.assert_allclose(y, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.compiled
@every_step_layer
@pytest.mark.parametrize("N", [1, 40])
def test_bits_do_not_depend_on_threads(row, N, rng, set_threads, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_A_SPAN", 1)
    x, runs = rng.normal(size=(N, 300, FEATURES)), []
    dy = rng.normal(size=forward(build(row.layer(), Signal(300, FEATURES)), x).shape)
    for n in (1, 2, 3):
        set_threads(n)
        layer = build(row.layer(), Signal(300, FEATURES), "float32")
        y, dx, grads = forward_backward(layer, x.astype(np.float32), dy)
        runs.append([y, dx, *grads.values(), *layer.params.values()])
    for run in runs[1:]:
        for array, expected in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(array, expected)


def on_any_length(layer, x, lengths, dy):
    """Return outputs, input gradients and parameter gradients of clips with lengths."""
    told = {"lengths": to_tiles(np.array(lengths))} if "lengths" in layer.takes else {}
    if "n_clips" in layer.takes:
        told["n_clips"] = len(x)
    y, cache = layer.forward(to_tiles(x), training=True, **told)
    dx, grads = layer.backward(to_tiles(dy, pad="zeros"), cache)
    return from_tiles(y, len(x)), from_tiles(dx, len(x)), {k: as_array(v) for k, v in grads.items()}


@any_length
def test_padding_changes_no_bit(row, rng):
    lengths, more = [40, 9, 23, 33, 12, 40, 17, 10, 39, 38, 9, 14, 25, 26, 31, 8, 11, 19], 150
    N, T = len(lengths), max(lengths)
    layer = build(row.layer(), Signal(None, FEATURES))
    after = layer.lengths_after(np.array(lengths))
    x = rng.normal(size=(N, T + more, FEATURES))
    dy = rng.normal(size=forward(layer, x).shape)
    steps = dy.ndim == 3
    if steps:  # what lies behind has no gradient
        dy[np.arange(dy.shape[1]) >= after[:, None]] = 0
    noise = np.where((np.arange(T + more) < np.array(lengths)[:, None])[..., None], x, 7.5)
    tight_dy = dy[:, : after.max()] if steps else dy
    runs = [
        on_any_length(layer, x, lengths, dy),
        on_any_length(layer, noise, lengths, dy),
        on_any_length(layer, np.ascontiguousarray(x[:, :T]), lengths, tight_dy),
    ]
    y, dx, grads = runs[0]
    assert not dx[np.arange(T + more) >= np.array(lengths)[:, None]].any()
    for other_y, other_dx, other_grads in runs[1:]:
        np.testing.assert_array_equal(other_dx, dx[:, : other_dx.shape[1]])
        for n in range(N):
            inside = slice(after[n]) if steps else slice(None)
            np.testing.assert_array_equal(other_y[n][inside], y[n][inside])
        for name, gradient in grads.items():
            np.testing.assert_array_equal(other_grads[name], gradient)


@pytest.mark.parametrize(
    "row",  # those whose outputs do not depend on the rest of the batch
    [row for row in STEP_LAYERS if row.any_length and "n_clips" not in row.layer().takes],
    ids=lambda row: row.name,
)
def test_a_clip_alone_has_the_bits_that_it_has_among_others(row, rng):
    lengths = [40, 9, 23]
    layer = build(row.layer(), Signal(None, FEATURES))
    after = layer.lengths_after(np.array(lengths))
    x = rng.normal(size=(3, 40, FEATURES))
    dy = rng.normal(size=forward(layer, x).shape)
    if dy.ndim == 3:
        dy[np.arange(dy.shape[1]) >= after[:, None]] = 0
    y, dx, _ = on_any_length(layer, x, lengths, dy)
    for n, length in enumerate(lengths):
        inside = slice(after[n]) if dy.ndim == 3 else slice(None)
        own = np.ascontiguousarray(x[n : n + 1, :length])
        alone, dalone, _ = forward_backward(layer, own, dy[n : n + 1][:, inside])
        np.testing.assert_array_equal(alone[0], y[n][inside])
        np.testing.assert_array_equal(dalone[0], dx[n, :length])
        np.testing.assert_allclose(alone, row.naive(own, **layer.params), rtol=0, atol=1e-12)


def as_part(layer):
    """Return a layer as a configuration says it."""
    options = layer.config()
    return {"_target_": f"nnjit.layers.{options.pop('layer')}", **options}


@every_step_layer
def test_a_model_with_it_is_built_from_a_configuration_and_recorded(row, rng):
    layer = row.layer()
    name = type(layer).__name__
    assert getattr(nnjit, name) is LAYERS[name]
    described = [as_part(layer)]
    if isinstance(build(layer, Signal(40, FEATURES)).connect(Signal(40, FEATURES)), Signal):
        described.append(as_part(GlobalAveragePooling1D()))
    described.append(as_part(Dense(2, "softmax")))
    part = {"_target_": "nnjit.Sequential", "layers": described, "dtype": "float64"}
    model = from_configuration(OmegaConf.create({"model": part}), "model", Sequential)
    assert model.layers[0].config() == layer.config()
    model.build(Signal(40, FEATURES))
    x = rng.normal(size=(20, 40, FEATURES))
    model.forward(x, training=True, rng=rng)
    again = Sequential.from_config(model.config(), model.params)
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


@pytest.mark.parametrize(
    "row", [row for row in STEP_LAYERS if not row.vectors], ids=lambda row: row.name
)
@pytest.mark.parametrize("spec", [Vector(8), Codes(5, 4)], ids=str)
def test_it_takes_sequences_of_vectors_only(row, spec):
    layer = row.layer()
    layer.name = "it"
    with pytest.raises(ShapeError, match=r"it expected \(N, T, D\), got .*: (put|set|codes)"):
        layer.connect(spec)


def test_a_largest_value_that_is_not_a_number_is_seen(rng):
    layer = build(nnjit.GlobalMaxPooling1D(), Signal(9, 2))
    x = rng.normal(size=(3, 9, 2))
    x[1, 4, 0] = np.nan
    assert np.isnan(forward(layer, x)).tolist() == [[False] * 2, [True, False], [False] * 2]


def test_a_stream_has_a_last_step_and_no_mean(rng):
    x = rng.normal(size=(3, 30, 2))
    model = Sequential([nnjit.GRU(3, return_sequences=True), nnjit.LastStep(), Dense(2)])
    model.build(Signal(30, 2))
    _, state = model.stream(x[:, :11])
    np.testing.assert_array_equal(model.stream(x[:, 11:], state)[0], model.predict_proba(x))
    model = Sequential([GlobalAveragePooling1D(), Dense(2)]).build(Signal(30, 2))
    with pytest.raises(ShapeError, match="globalaveragepooling1d needs all steps at once"):
        model.stream(x)


# Convolution and pooling.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv1D(0, 3), "filters=0 must be 1 or more"),
        (lambda: Conv1D(3, 0), "kernel_size=0 must be 1 or more"),
        (lambda: Conv1D(3, 3, strides=-1), "strides=-1 must be 1 or more"),
        (lambda: Conv1D(3, 3, padding="full"), "padding=full .*choose from valid, same, causal"),
        (lambda: MaxPooling1D(0), "MaxPooling1D pool_size=0 must be 1 or more"),
        (lambda: AveragePooling1D(2, 0), "AveragePooling1D strides=0 must be 1 or more"),
        (lambda: MaxPooling1D(2, padding="causal"), "does not exist: choose from valid, same"),
        (lambda: Conv1D(3, 3, 2, dilation_rate=2), "strides=2 with dilation_rate=2: one must be 1"),
    ],
)
def test_wrong_windows(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_windows_that_clips_do_not_have():
    layer = build(Conv1D(2, 9, padding="causal"), Signal(3, FEATURES))
    assert layer.connect(Signal(3, FEATURES)) == Signal(3, 2)
    with pytest.raises(ShapeError, match="conv1d has windows of 9 steps, and a clip of 8 has none"):
        build(Conv1D(2, 5, dilation_rate=2), Signal(8, FEATURES))
    with pytest.raises(ShapeError, match=r"padding=same and strides=2 .*take padding=causal or va"):
        build(Conv1D(2, 5, 2, padding="same"), Signal(None, FEATURES))
    model = Sequential([MaxPooling1D(4), nnjit.LastStep(), Dense(2)]).build(Signal(None, FEATURES))
    with pytest.raises(ShapeError, match="maxpooling1d has windows of 4 steps, and a clip of 3"):
        model.predict_proba([np.ones((9, FEATURES)), np.ones((3, FEATURES))])


def strided_network(n_steps, dtype="float64"):
    layers = [
        Conv1D(5, 4, strides=2, padding="causal", activation="relu"),
        MaxPooling1D(2),
        nnjit.GRU(4, return_sequences=True),
        Conv1D(3, 3, padding="same", activation="tanh"),
        GlobalAveragePooling1D(),
        Dense(2, "softmax"),
    ]
    return Sequential(layers, dtype).build(Signal(n_steps, FEATURES), seed=3)


def test_gradients_of_a_network_of_convolutions(rng):
    clips = [rng.normal(size=(n, FEATURES)) for n in (30, 7, 18, 25)]
    assert nnjit.check_gradients(strided_network(None), clips, [0, 1, 1, 0]).ok
    x = rng.normal(size=(4, 30, FEATURES))
    assert nnjit.check_gradients(strided_network(30), x, [0, 1, 1, 0]).ok


def test_clips_of_any_length_through_strides(rng):
    model = strided_network(None)
    clips = [rng.normal(size=(n, FEATURES)) for n in (300, 7, 18, 25, 131)]
    together = model.predict_proba(clips)
    for n, clip in enumerate(clips):
        np.testing.assert_array_equal(model.predict_proba([clip])[0], together[n])
        fixed = strided_network(len(clip)).predict_proba(clip[None])[0]
        np.testing.assert_allclose(fixed, together[n], rtol=0, atol=1e-14)


@pytest.mark.compiled
def test_bits_behind_a_convolution_depend_on_neither_threads_nor_checkpoints(rng, set_threads):
    x, labels = rng.normal(size=(40, 900, FEATURES)), rng.integers(0, 2, 40)
    weights = set()
    for n, checkpoint in [(1, "off"), (2, "off"), (3, 128), (1, 128)]:
        trainer = nnjit.Trainer(
            nnjit.Adam(0.01), epochs=2, batch_size=20, bptt=Bptt(checkpoint), threads=n
        )
        model = strided_network(900, "float32")
        trainer.fit(model, {"train": (x, labels), "val": (x[:9], labels[:9])})
        weights.add(weights_digest(model))
    assert len(weights) == 1


# Norms, noise.


@pytest.mark.parametrize("kind", [LayerNormalization, BatchNormalization])
def test_norms_of_vectors_are_those_of_one_step(kind, rng):
    layer, x = build(kind(), Vector(5)), rng.normal(size=(21, 5))
    y, dx, grads = forward_backward(layer, x, x**2)
    naive_form = naive.layer_norm if kind is LayerNormalization else naive.batch_norm
    expected = naive_form(x[:, None], **layer.params)[:, 0]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    steps_y, steps_dx, steps_grads = forward_backward(layer, x[:, None], x[:, None] ** 2)
    np.testing.assert_array_equal(y, steps_y[:, 0])
    np.testing.assert_array_equal(dx, steps_dx[:, 0])
    np.testing.assert_array_equal(grads["gamma"], steps_grads["gamma"])


def test_moving_statistics(rng):
    layer = BatchNormalization(momentum=0.75)
    layer.name = "norm"
    layer.build(Signal(6, FEATURES), rng, np.float64)
    x = [rng.normal(2, 3, size=(n, 6, FEATURES)) for n in (5, 40)]
    mean, variance = np.zeros(FEATURES), np.ones(FEATURES)
    for batch in x:
        forward(layer, batch, training=True)
        mean = 0.75 * mean + 0.25 * batch.mean(axis=(0, 1))
        variance = 0.75 * variance + 0.25 * batch.var(axis=(0, 1))
    np.testing.assert_allclose(layer.params["moving_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(layer.params["moving_variance"], variance, rtol=1e-12)
    y, expected = forward(layer, x[0]), (x[0] - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.params["moving_mean"], mean, rtol=1e-12)
    assert layer.n_params() == 2 * FEATURES


def test_statistics_of_clips_are_of_their_own_steps(rng):
    model = Sequential([BatchNormalization(0.0), nnjit.LastStep(), Dense(2)], "float64")
    model.build(Signal(None, FEATURES))
    clips = [rng.normal(size=(n, FEATURES)) for n in (4, 90, 2)]
    model.forward(clips, training=True)
    moving, steps = model.params["batchnormalization"], np.concatenate(clips)
    np.testing.assert_allclose(moving["moving_mean"], steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moving["moving_variance"], steps.var(axis=0), rtol=1e-12)


def test_a_run_with_moving_statistics_goes_on_to_the_same_bits(rng):
    x, labels = rng.normal(size=(48, 30, FEATURES)), rng.integers(0, 2, 48)

    class Keep(nnjit.Callback):
        state = None

        def on_batch_end(self, progress):
            if (progress.position.epoch, progress.position.batch) == (1, 1):
                self.state = TrainingState.of(progress).pack()

    def fitted(callbacks=(), **options):
        layers = [Dense(4), BatchNormalization(0.9), GlobalAveragePooling1D(), Dense(2, "softmax")]
        model = Sequential(layers).build(Signal(30, FEATURES), seed=0)
        trainer = nnjit.Trainer(nnjit.Adam(0.01), epochs=3, batch_size=16)
        trainer.fit(model, {"train": (x, labels), "val": (x, labels)}, callbacks, **options)
        return model

    keep = Keep()
    model = fitted([keep])
    again = fitted(resume=TrainingState.unpack(keep.state))
    assert weights_digest(again) == weights_digest(model)
    assert (model.params["batchnormalization"]["moving_mean"] != 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNormalization(0), "LayerNormalization epsilon=0 must be above 0"),
        (lambda: BatchNormalization(1.0), "momentum=1.0 must be from 0 to below 1"),
        (lambda: BatchNormalization(epsilon=-1), "BatchNormalization epsilon=-1 must be above 0"),
        (lambda: SpatialDropout1D(1), "SpatialDropout1D rate=1 must be from 0 to below 1"),
        (lambda: GaussianNoise(-1), "GaussianNoise stddev=-1 must be 0 or more"),
    ],
)
def test_wrong_norms_and_noise(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_spatial_dropout_takes_features_of_clips(rng):
    layer, x = build(SpatialDropout1D(0.25), Signal(5, 60)), rng.normal(size=(40, 5, 60))
    y, dx, _ = forward_backward(layer, x, np.ones_like(x), rng=np.random.default_rng(1))
    keep = y[:, 0] != 0
    np.testing.assert_allclose(y, naive.dropout(x, keep[:, None], 0.25), rtol=1e-6)
    np.testing.assert_allclose(dx, naive.dropout(np.ones_like(x), keep[:, None], 0.25), rtol=1e-6)
    assert keep.mean() == pytest.approx(0.75, abs=0.04)  # 2,400 draws: 4 deviations
    longer, _ = layer.forward(
        to_tiles(np.repeat(x, 2, axis=1)), training=True, rng=np.random.default_rng(1)
    )
    assert ((from_tiles(longer, 40)[:, 9] != 0) == keep).all()
    np.testing.assert_array_equal(forward(layer, x), x)


def test_gaussian_noise(rng):
    layer, x = build(GaussianNoise(0.5), Signal(20, 30)), rng.normal(size=(40, 20, 30))
    y, dx, _ = forward_backward(layer, x, x, rng=np.random.default_rng(1))
    assert (y - x).std() == pytest.approx(0.5, abs=0.01)
    assert (y - x).mean() == pytest.approx(0, abs=0.015)  # 24,000 draws: 4 deviations
    np.testing.assert_array_equal(dx, x)
    np.testing.assert_array_equal(forward(layer, x), x)
    with pytest.raises(ConfigError, match="GaussianNoise needs rng while training"):
        forward(layer, x, training=True)


def test_scores_are_of_clips_not_of_steps():
    with pytest.raises(ShapeError, match=r"dense gives the class scores .*got \(N, 5, 4\): put"):
        Sequential([Dense(2)]).build(Signal(5, 4))


# Embedding and both directions.


@pytest.mark.interpreted
@pytest.mark.parametrize("dim", [2, 20])
def test_embedding_is_that_of_torch(dim, rng):
    layer = build(Embedding(None, dim), Codes(70, 9))
    codes, dy = rng.integers(0, 9, (18, 70), np.uint8), rng.normal(size=(18, 70, dim))
    y, dx, grads = forward_backward(layer, codes, dy)
    E = torch.tensor(layer.params["E"], requires_grad=True)
    theirs = torch.nn.functional.embedding(torch.tensor(codes.astype(int)), E)
    theirs.backward(torch.tensor(dy))
    np.testing.assert_array_equal(y, theirs.detach())
    np.testing.assert_allclose(grads["E"], E.grad, rtol=0, atol=1e-11)
    assert dx is None


@pytest.mark.compiled
@pytest.mark.parametrize("dim", [3, 16])
def test_bits_of_an_embedding_depend_on_neither_threads_nor_padding(
    dim, rng, set_threads, monkeypatch
):
    monkeypatch.setattr(threads, "_WORTH_A_SPAN", 1)
    layer = build(Embedding(9, dim), Codes(None, 9), "float32")
    codes = rng.integers(0, 9, (20, 5000), np.uint8)
    dy = rng.normal(size=(20, 5000, dim))
    dy[:, 2500:] = 0
    runs = []
    for n, T in [(1, 5000), (3, 5000), (2, 2500)]:
        set_threads(n)
        y, _, grads = forward_backward(layer, codes[:, :T], dy[:, :T])
        runs.append((y[:, :2500], grads["E"]))
    for y, dE in runs[1:]:
        np.testing.assert_array_equal(y, runs[0][0])
        np.testing.assert_array_equal(dE, runs[0][1])


def test_embeddings_of_other_inputs_are_told():
    with pytest.raises(ConfigError, match="output_dim=0 must be 1 or more"):
        Embedding(None, 0)
    with pytest.raises(ShapeError, match=r"embedding expected codes, got \(N, 5, 4\)"):
        build(Embedding(None, 3), Signal(5, 4))
    with pytest.raises(
        ShapeError, match="input_dim=8, the inputs have 16 symbols: leave input_dim"
    ):
        build(Embedding(8, 3), Codes(5, 16))


def both_ways(x, params, states):
    """Return the states forwards, and those backwards at the same steps."""

    def of(direction):
        return {k.removeprefix(direction): v for k, v in params.items() if k.startswith(direction)}

    back = states(x[:, ::-1] if isinstance(x, np.ndarray) else x.flip(1), **of("backward_"))
    back = back[:, ::-1] if isinstance(x, np.ndarray) else back.flip(1)
    return states(x, **of("forward_")), back


@every_cell
@both_inputs
@both_outputs
@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_both_directions(cell, kind, sequences, mode, rng):
    x, spec = inputs(kind, 18, 9, rng)
    layer = build(Bidirectional(cell.layer(4, return_sequences=sequences), mode), spec)

    def merged(ahead, back, concatenate):
        if not sequences:
            ahead, back = ahead[:, -1], back[:, 0]
        return ahead + back if mode == "sum" else concatenate([ahead, back], -1)

    signal = as_signal(x)
    expected = merged(*both_ways(signal, layer.params, cell.naive), np.concatenate)
    dy = rng.normal(size=expected.shape)
    y, dx, grads = forward_backward(layer, x, dy)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    params, theirs = twins.leaves(layer.params), torch.tensor(signal, requires_grad=True)
    merged(*both_ways(theirs, params, cell.torch), torch.cat).backward(torch.tensor(dy))
    assert grads.keys() == params.keys()
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, params[name].grad, rtol=0, atol=1e-11)
    if kind == "signal":
        np.testing.assert_allclose(dx, theirs.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sequences", [True, False])
@both_inputs
def test_both_directions_of_clips_of_any_length(kind, sequences, rng):
    spec = Codes(None, LEVELS) if kind == "codes" else Signal(None, FEATURES)
    layers = [Bidirectional(nnjit.LSTM(3, return_sequences=sequences)), Dense(2, "softmax")]
    if sequences:
        layers[1:1] = [Bidirectional(nnjit.GRU(2, return_sequences=True), "sum"), nnjit.LastStep()]
    model = Sequential(layers, "float64").build(spec)
    clips = [inputs(kind, 1, n, rng)[0][0] for n in (40, 3, 17, 1)]
    together = model.predict_proba(clips)
    for n, clip in enumerate(clips):
        np.testing.assert_array_equal(model.predict_proba([clip])[0], together[n])
    assert nnjit.check_gradients(model, clips, [0, 1, 1, 0]).ok
    again = Sequential.from_config(model.config(), model.params)
    np.testing.assert_array_equal(again.predict_proba(clips), together)


def test_wrong_directions_are_told():
    with pytest.raises(ConfigError, match="merge_mode=mul does not exist: choose from concat, sum"):
        Bidirectional(nnjit.GRU(2), "mul")
    with pytest.raises(ConfigError, match="Bidirectional wraps RNN, GRU, LSTM or Recurrent, not"):
        Bidirectional(Dense(2))
    model = Sequential([Bidirectional(nnjit.GRU(2)), Dense(2)]).build(Codes(9, 4))
    with pytest.raises(ShapeError, match="bidirectional needs all steps at once"):
        model.stream(np.zeros((1, 9), np.uint8))
    config = model.config()
    config["layers"][0]["of"] = config["layers"][0]
    with pytest.raises(ConfigError, match="wraps a layer that wraps another one"):
        Sequential.from_config(config)


@pytest.mark.compiled
def test_bits_of_both_directions_depend_on_neither_threads_nor_checkpoints(rng):
    x, labels = rng.normal(size=(20, 600, FEATURES)), rng.integers(0, 2, 20)
    digests = set()
    for n, checkpoint in [(1, "off"), (3, 128)]:
        trainer = nnjit.Trainer(
            nnjit.Adam(0.01), epochs=1, batch_size=20, bptt=Bptt(checkpoint), threads=n
        )
        model = Sequential([Bidirectional(nnjit.GRU(3)), Dense(2, "softmax")])
        model.build(Signal(600, FEATURES), seed=0)
        trainer.fit(model, {"train": (x, labels), "val": (x, labels)})
        ways = list(model.layers[0].inner())[1:]
        assert [way.bptt.checkpoint for way in ways] == [checkpoint] * 2
        digests.add(weights_digest(model))
    assert len(digests) == 1


def test_a_copy_with_other_parameters_leaves_those_of_the_original(rng):
    model = Sequential([Bidirectional(nnjit.GRU(3)), Dense(2)]).build(Signal(9, FEATURES))
    x = rng.normal(size=(4, 9, FEATURES))
    before = model.predict_proba(x)
    zeros = {k: np.zeros_like(v) for k, v in model.params["bidirectional"].items()}
    other = model.with_params({"bidirectional": zeros})
    assert (other.predict_proba(x) == other.predict_proba(x[:1])).all()
    np.testing.assert_array_equal(model.predict_proba(x), before)


def test_a_bidirectional_layer_of_a_configuration(rng):
    wrapped = {"_target_": "nnjit.layers.Recurrent", "cell": "min_gru", "hidden_size": 3}
    layers = [
        {"_target_": "nnjit.layers.Embedding", "input_dim": None, "output_dim": 4},
        {"_target_": "nnjit.layers.Bidirectional", "layer": wrapped, "merge_mode": "sum"},
        {"_target_": "nnjit.layers.Dense", "units": 2, "activation": "softmax"},
    ]
    part = {"_target_": "nnjit.Sequential", "layers": layers}
    model = from_configuration(OmegaConf.create({"model": part}), "model", Sequential)
    model.build(Codes(9, 5), seed=1)
    codes = rng.integers(0, 5, (4, 9), np.uint8)
    again = Sequential.from_config(model.config(), model.params)
    np.testing.assert_array_equal(again.predict_proba(codes), model.predict_proba(codes))
    layers[1]["layer"] = layers[2]
    with pytest.raises(ConfigError, match=r"model.layers.1.layer=.* has the wrong type"):
        from_configuration(OmegaConf.create({"model": part}), "model", Sequential)
