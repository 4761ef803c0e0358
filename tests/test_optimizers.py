import naive
import numpy as np
import pytest
import torch
from registry import both_dtypes

from nnjit.errors import ConfigError
from nnjit.layers.gradients import RowGradient
from nnjit.training.history import Epoch, Evaluation, History
from nnjit.training.optimizers import SGD, Adam, AdamW, RMSprop
from nnjit.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    OneCycle,
    ReduceLROnPlateau,
)

# name -> ours and torch's
PAIRS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adam": (Adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam options": (
        Adam(0.02, beta1=0.5, beta2=0.9, epsilon=1e-3),
        lambda p: torch.optim.Adam(p, 0.02, betas=(0.5, 0.9), eps=1e-3),
    ),
    "adamw": (AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01)),
    "adamw options": (
        AdamW(0.02, beta1=0.5, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, 0.02, betas=(0.5, 0.999), weight_decay=0.3),
    ),
    "adam with decay": (
        Adam(0.02, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, 0.02, weight_decay=0.3),
    ),
    "sgd with decay": (
        SGD(0.1, weight_decay=0.2),
        lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.2),
    ),
    "rmsprop": (RMSprop(0.01), lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9)),
    "rmsprop options": (
        RMSprop(0.02, rho=0.5, momentum=0.7, epsilon=1e-3),
        lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.5, eps=1e-3, momentum=0.7),
    ),
}


def some_params(rng, dtype="float64"):
    return {
        "rnn": {"U": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=4).astype(dtype)},
        "dense": {"W": rng.normal(size=(5, 2)).astype(dtype)},
    }


def like(params, rng):
    """Return gradients for such parameters."""
    return {
        layer: {name: rng.normal(size=w.shape).astype(w.dtype) for name, w in group.items()}
        for layer, group in params.items()
    }


def copy(params):
    return {layer: {k: w.copy() for k, w in group.items()} for layer, group in params.items()}


def flat(params):
    return np.concatenate([w.ravel() for group in params.values() for w in group.values()])


def step_size(optimizer, grads, params, epoch=0):
    """Return what one step takes away from the parameters."""
    before = flat(params)
    optimizer.step(params, grads, epoch)
    return before - flat(params)


@pytest.mark.parametrize("name", PAIRS)
def test_equals_torch(name, rng):
    ours, torchs = PAIRS[name]
    params = some_params(rng)
    leaves = {layer: {k: torch.tensor(w) for k, w in g.items()} for layer, g in params.items()}
    every = [leaf for group in leaves.values() for leaf in group.values()]
    exempt = [{"params": [leaf for leaf in every if leaf.ndim < 2], "weight_decay": 0}]
    theirs = torchs([{"params": [leaf for leaf in every if leaf.ndim > 1]}, *exempt])
    for _ in range(6):
        grads = like(params, rng)
        ours.step(params, grads)
        for layer, group in grads.items():
            for key, gradient in group.items():
                leaves[layer][key].grad = torch.tensor(gradient)
        theirs.step()
        np.testing.assert_allclose(flat(params), flat(leaves_as_arrays(leaves)), rtol=1e-13)


def leaves_as_arrays(leaves):
    return {layer: {k: t.numpy() for k, t in group.items()} for layer, group in leaves.items()}


@both_dtypes
@pytest.mark.parametrize(
    "make",
    [
        *(lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.5), Adam, AdamW),
        *(RMSprop, lambda: RMSprop(momentum=0.5)),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop", "rmsprop momentum"],
)
def test_steps_in_place_and_leaves_the_gradients(make, dtype, rng):
    params = some_params(rng, dtype)
    arrays = [w for group in params.values() for w in group.values()]
    grads = like(params, rng)
    before, first = copy(grads), copy(params)
    make().step(params, grads)
    after = [w for group in params.values() for w in group.values()]
    assert [id(w) for w in after] == [id(w) for w in arrays]
    assert all(a.dtype == dtype for a in arrays)
    assert (flat(params) != flat(first)).all()
    np.testing.assert_array_equal(flat(grads), flat(before))


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.5), Adam, AdamW, RMSprop),
        *(lambda: SGD(0.1, clip_norm=0.3), lambda: SGD(0.1, weight_decay=0.5)),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop", "clipped", "decayed"],
)
def test_row_gradient_equals_its_dense_form(make, rng):
    codes = rng.integers(0, 4, (2, 30, 16), np.uint8)
    rows = RowGradient(codes, rng.normal(size=(2, 16, 3)), 4)
    x = naive.flatten(naive.one_hot(codes.transpose(0, 2, 1).reshape(32, 30), 4))
    dense = x.T @ rows.dz.reshape(32, 3)
    by_rows = {"dense": {"W": rng.normal(size=(120, 3))}}
    by_matrix = copy(by_rows)
    optimizers = make(), make()
    for _ in range(3):
        optimizers[0].step(by_rows, {"dense": {"W": rows}})
        optimizers[1].step(by_matrix, {"dense": {"W": dense}})
        np.testing.assert_allclose(flat(by_rows), flat(by_matrix), rtol=0, atol=1e-12)


# Clipping. With SGD(1), a step takes the clipped gradient away.


def norms(params, taken):
    """Split a flat step and return its norm for each layer."""
    found, start = [], 0
    for group in params.values():
        size = sum(w.size for w in group.values())
        found.append(np.linalg.norm(taken[start : start + size]))
        start += size
    return found


def test_clip_norm_is_per_layer(rng):
    params = some_params(rng)
    grads = like(params, rng)
    grads["dense"]["W"] *= 0.1 / np.linalg.norm(grads["dense"]["W"])
    taken = step_size(SGD(1, clip_norm=0.25), grads, params)
    assert norms(params, taken) == pytest.approx([0.25, 0.1])
    scale = 0.25 / np.linalg.norm(flat({"rnn": grads["rnn"]}))
    expected = np.concatenate([scale * flat({"rnn": grads["rnn"]}), grads["dense"]["W"].ravel()])
    np.testing.assert_allclose(taken, expected, rtol=1e-12)


def test_clip_global_norm_equals_torch(rng):
    params = some_params(rng)
    grads = like(params, rng)
    leaf = torch.zeros(flat(params).size, dtype=torch.float64, requires_grad=True)
    leaf.grad = torch.tensor(flat(grads))
    torch.nn.utils.clip_grad_norm_([leaf], 0.5)
    taken = step_size(SGD(1, clip_global_norm=0.5), grads, params)
    assert np.linalg.norm(taken) == pytest.approx(0.5)
    np.testing.assert_allclose(taken, leaf.grad, rtol=1e-5)  # torch adds 1e-6 to the norm


def test_layers_are_clipped_before_the_whole(rng):
    params = some_params(rng)
    taken = step_size(SGD(1, clip_norm=0.3, clip_global_norm=0.3), like(params, rng), params)
    assert norms(params, taken) == pytest.approx([0.3 / np.sqrt(2)] * 2)


def test_small_gradients_are_not_clipped(rng):
    params = some_params(rng)
    grads = like(params, rng)
    taken = step_size(SGD(1, clip_norm=100, clip_global_norm=100), grads, params)
    np.testing.assert_allclose(taken, flat(grads), rtol=1e-12)


# Settings of single layers.


def test_layer_settings_go_first(rng):
    settings = {"rnn": {"learning_rate": 0.5, "clip_norm": 0.25, "schedule": InverseTime(0.01)}}
    optimizer = SGD(2.0, schedule=Exponential(0.1), layers=settings)
    assert optimizer.rate("rnn", 3) == pytest.approx(0.5 / (1 + 100 * 0.01 * 3))
    assert optimizer.rate("dense", 3) == pytest.approx(2 * np.exp(-0.3))
    params = some_params(rng)
    grads = like(params, rng)
    taken = step_size(optimizer, grads, params, epoch=3)
    expected = [
        0.25 * optimizer.rate("rnn", 3),
        2 * np.exp(-0.3) * np.linalg.norm(grads["dense"]["W"]),
    ]
    assert norms(params, taken) == pytest.approx(expected)


def test_a_layer_can_be_left_unclipped(rng):
    params = some_params(rng)
    grads = like(params, rng)
    optimizer = SGD(1, clip_norm=0.25, layers={"dense": {"clip_norm": None}})
    taken = step_size(optimizer, grads, params)
    assert norms(params, taken) == pytest.approx([0.25, np.linalg.norm(grads["dense"]["W"])])


def test_weights_decay_by_the_rate_and_before_the_step(rng):
    params = some_params(rng)
    before, none = copy(params), {k: {n: 0 * w for n, w in g.items()} for k, g in params.items()}
    settings = {"dense": {"weight_decay": 0.0}}
    SGD(0.5, momentum=0.9, weight_decay=0.2, layers=settings).step(params, none)
    np.testing.assert_allclose(params["rnn"]["U"], 0.9 * before["rnn"]["U"], rtol=1e-15)
    np.testing.assert_array_equal(params["rnn"]["b"], before["rnn"]["b"])
    np.testing.assert_array_equal(params["dense"]["W"], before["dense"]["W"])


def test_averages_equal_torch(rng):
    params = some_params(rng)
    leaves = torch.nn.ParameterList([torch.tensor(w) for g in params.values() for w in g.values()])
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.8)
    theirs = torch.optim.swa_utils.AveragedModel(leaves, multi_avg_fn=average)
    optimizer = Adam(0.05, ema_momentum=0.8)
    assert optimizer.averages() == {}
    for _ in range(5):
        optimizer.step(params, like(params, rng))
        for leaf, w in zip(leaves, flat_arrays(params), strict=True):
            leaf.data = torch.tensor(w)
        theirs.update_parameters(leaves)
    ours = flat_arrays(optimizer.averages())
    for mine, leaf in zip(ours, theirs.module, strict=True):
        np.testing.assert_allclose(mine, leaf.detach().numpy(), rtol=1e-13)
    assert not np.allclose(flat(optimizer.averages()), flat(params))


def flat_arrays(params):
    return [w for group in params.values() for w in group.values()]


def test_a_frozen_layer_keeps_its_weights_and_is_not_in_the_norm(rng):
    params = some_params(rng)
    before, grads = copy(params), like(params, rng)
    frozen = {"rnn": {"trainable": False}}
    options = {"clip_global_norm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    optimizer = SGD(1.0, layers=frozen, **options)
    optimizer.check_layers(["rnn", "dense"])
    optimizer.step(params, grads)
    for key, w in before["rnn"].items():
        np.testing.assert_array_equal(params["rnn"][key], w)
    assert list(optimizer.averages()) == ["dense"]
    taken = 0.9 * before["dense"]["W"] - params["dense"]["W"]
    expected = 0.5 * grads["dense"]["W"] / np.linalg.norm(grads["dense"]["W"])
    np.testing.assert_allclose(taken, expected, rtol=1e-12)


def test_something_must_be_trainable():
    frozen = {name: {"trainable": False} for name in ("rnn", "dense")}
    with pytest.raises(ConfigError, match="leaves no layer trainable"):
        SGD(layers=frozen).check_layers(["rnn", "dense"])
    with pytest.raises(ConfigError, match=r"rnn\.trainable=no must be true or false"):
        SGD(layers={"rnn": {"trainable": "no"}}).check_layers(["rnn", "dense"])


def test_layers_are_checked():
    SGD(layers={"rnn": {"clip_norm": 1}}).check_layers(["rnn", "dense"])
    with pytest.raises(ConfigError, match="names 'gru', the model has rnn, dense"):
        SGD(layers={"gru": {}}).check_layers(["rnn", "dense"])
    message = (
        r"layers\.rnn\.momentum does not exist: choose from learning_rate, schedule, clip_norm, "
        "weight_decay, trainable"
    )
    with pytest.raises(ConfigError, match=message):
        SGD(layers={"rnn": {"momentum": 1}}).check_layers(["rnn"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), r"optimizer\.learning_rate=0 must be above 0"),
        (lambda: SGD(-1), r"optimizer\.learning_rate=-1 must be above 0"),
        (lambda: SGD(float("nan")), r"optimizer\.learning_rate=nan must be above 0"),
        (lambda: SGD(None), r"optimizer\.learning_rate=None must be above 0"),
        (lambda: SGD(clip_norm=0), r"optimizer\.clip_norm=0 must be above 0"),
        (lambda: SGD(clip_global_norm=-2), r"optimizer\.clip_global_norm=-2 must be above 0"),
        (lambda: SGD(momentum=1), r"optimizer\.momentum=1 must be from 0 to below 1"),
        (lambda: Adam(beta1=1), r"optimizer\.beta1=1 must be from 0 to below 1"),
        (lambda: SGD(ema_momentum=1), r"optimizer\.ema_momentum=1 must be from 0 to below 1"),
        (lambda: RMSprop(rho=1), r"optimizer\.rho=1 must be from 0 to below 1"),
        (lambda: AdamW(weight_decay=-1), r"optimizer\.weight_decay=-1 must be 0 \(none\) or more"),
        (
            lambda: SGD(layers={"rnn": {"weight_decay": -1}}),
            r"optimizer\.layers\.rnn\.weight_decay=-1 must be 0",
        ),
        (lambda: Adam(beta2=-0.1), r"optimizer\.beta2=-0.1 must be from 0 to below 1"),
        (
            lambda: SGD(layers={"rnn": {"learning_rate": -1}}),
            r"optimizer\.layers\.rnn\.learning_rate=-1 must be above 0",
        ),
        (
            lambda: SGD(layers={"rnn": {"clip_norm": 0}}),
            r"optimizer\.layers\.rnn\.clip_norm=0 must be above 0",
        ),
        (lambda: Exponential(period=0), "period=0 must be 1 or more"),
        (lambda: Exponential(drop=1), "drop=1 from 0 to below 1"),
        (lambda: InverseTime(-1), "decay=-1 must not be negative"),
        (lambda: Cosine(0), "epochs=0 must be above 0"),
        (lambda: Cosine(3, alpha=2), "alpha=2 from 0 to 1"),
        (lambda: OneCycle(3, pct_start=1), "pct_start=1 between 0 and 1"),
        (lambda: OneCycle(3, div_factor=0), "div_factor=0 and final_div_factor"),
        (lambda: ReduceLROnPlateau(factor=1), "factor=1 must be between 0 and 1"),
        (lambda: ReduceLROnPlateau(patience=0), "patience=0 must be 1 epoch or more"),
        (lambda: SGD(warmup_epochs=-1), r"optimizer\.warmup_epochs=-1 must be 0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# Schedules, as SPEC.md section 2 has them.


@pytest.mark.parametrize("epoch", [0, 1, 4, 5, 13, 50])
def test_schedules(epoch):
    d, n, k = 0.2, 5, 0.05
    expected = (1 - d) ** (epoch // n) * np.exp(-(epoch % n) * k)
    assert Exponential(decay=k, period=n, drop=d).factor(epoch) == pytest.approx(expected)
    assert InverseTime(k).factor(epoch) == pytest.approx(1 / (1 + 100 * k * epoch))
    assert Constant().factor(epoch) == 1


@pytest.mark.parametrize("schedule", [Constant(), Exponential(), InverseTime()])
def test_schedules_start_at_the_learning_rate(schedule):
    assert SGD(0.3, schedule=schedule).rate("any", 0) == 0.3


def rates_of(optimizer, n_epochs, n_batches):
    """Return the rate of each batch."""
    return [
        optimizer.rate("any", epoch, batch, n_batches)
        for epoch in range(n_epochs)
        for batch in range(n_batches)
    ]


def torchs_rates(make, n, rate=0.3):
    """Return the rates of n steps under a scheduler of torch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], rate)
    scheduler, found = make(optimizer), []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_equals_torch():
    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0.03)

    ours = rates_of(SGD(0.3, schedule=Cosine(3, alpha=0.1)), 3, 4)
    np.testing.assert_allclose(ours, torchs_rates(make, 12), rtol=1e-12)
    assert SGD(0.3, schedule=Cosine(3, alpha=0.1)).rate("any", 7) == pytest.approx(0.03)


def test_one_cycle_equals_torch():
    # torch lets the rate grow until step pct_start * n - 1, and ends with step n - 1
    n, up = 20, 6

    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.3, total_steps=n + 1, pct_start=(up + 1) / (n + 1), cycle_momentum=False
        )

    ours = rates_of(SGD(0.3, schedule=OneCycle(5, pct_start=up / n)), 5, 4)
    np.testing.assert_allclose(ours, torchs_rates(make, n), rtol=1e-9)
    assert int(np.argmax(ours)) == up
    assert max(ours) == pytest.approx(0.3)


@pytest.mark.parametrize("schedule", [Constant(), Exponential(0.1, 2), Cosine(4)])
def test_warm_up_is_linear_and_before_any_schedule(schedule):
    without = rates_of(SGD(0.3, schedule=schedule), 4, 5)
    growth = np.minimum(1, np.arange(1, 21) / 8)
    ours = rates_of(SGD(0.3, schedule=schedule, warmup_epochs=1.6), 4, 5)
    np.testing.assert_allclose(ours, growth * without, rtol=1e-12)


def test_warm_up_equals_torch():
    def make(optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 8, total_iters=7)

    np.testing.assert_allclose(
        rates_of(SGD(0.3, warmup_epochs=2), 3, 4), torchs_rates(make, 12), rtol=1e-12
    )


def history_of(values, monitor):
    """Return a history of epochs with these values of what is monitored."""
    history, (name, metric) = History(monitor), monitor.split("/")
    for i, value in enumerate(values):
        empty = np.zeros((2, 2), np.int64), np.empty(0)
        history.add(Epoch(i, {}, {name: Evaluation({metric: value}, [], *empty)}, 0.0))
    return history


@pytest.mark.parametrize("monitor", ["val/accuracy", "val/loss"])
@pytest.mark.parametrize("cooldown", [0, 1, 3])
@pytest.mark.parametrize("patience", [1, 3])
def test_plateaus_are_those_of_torch(patience, cooldown, monitor, rng):
    values = np.round(rng.random(40), 2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="min" if monitor == "val/loss" else "max",
        **{"factor": 0.5, "patience": patience - 1, "threshold": 0.05, "threshold_mode": "abs"},
        **{"cooldown": cooldown, "min_lr": 0.3 / 100, "eps": 0},
    )
    ours = SGD(0.3, schedule=ReduceLROnPlateau(0.5, patience, 0.05, cooldown, 0.01))
    for n in range(len(values)):
        ours.follow(history_of(values[:n], monitor))
        assert ours.rate("any", n) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        theirs.step(values[n])
    assert ours.rate("any", 0) < 0.3  # it was reduced, and knows no epoch


def test_schedules_of_layers_follow_too():
    layers = {"rnn": {"schedule": ReduceLROnPlateau(0.5, 1)}}
    optimizer = SGD(1.0, layers=layers)
    optimizer.follow(history_of([0.5, 0.5], "val/accuracy"))
    assert (optimizer.rate("rnn", 2), optimizer.rate("dense", 2)) == (0.5, 1.0)
    optimizer.follow(history_of([], "val/accuracy"))
    assert optimizer.rate("rnn", 0) == 1.0
