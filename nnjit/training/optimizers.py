"""Optimisers: they change parameters in place along gradients, both by layer and name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..kernels import update
from ..layers.gradients import FactoredGradient, as_array
from ..parts import Part
from .history import History
from .schedules import Constant, Schedule

Array = NDArray[Any]
Parameters = Mapping[str, Mapping[str, Array]]  # layer name -> parameter name -> array
Gradients = Mapping[str, Mapping[str, "Array | FactoredGradient"]]
_MOST_IN_A_CALL = 1 << 24  # values of each array
_LAYER_KEYS = ("learning_rate", "schedule", "clip_norm", "weight_decay", "trainable")


def _update(kernel: Callable[..., None], arrays: Sequence[Array], *scalars: Any) -> None:
    """Call a kernel on flat arrays, a piece at a time if they are long: signals wait for a call."""
    for begin in range(0, arrays[0].size, _MOST_IN_A_CALL):
        kernel(*(array[begin : begin + _MOST_IN_A_CALL] for array in arrays), *scalars)


def _norm(grads: Mapping[str, Any]) -> float:
    """Return the Euclidean norm over all arrays of a layer."""
    return sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))


class Optimizer(Part, ABC):
    """Settings that all optimisers share, and the order of a step: clip, decay, update.

    Parameters
    ----------
    learning_rate
        Step size in epoch 0, above 0.
    schedule
        Its change over the epochs; constant where None.
    warmup_epochs
        Epochs, or a fraction, over which the learning rate grows linearly, batch by batch, up to
        what the schedule says; 0 has none.
    clip_norm
        Largest Euclidean norm of the gradient of each layer (None: no limit).
    clip_global_norm
        Largest norm over all layers together (None: no limit).
    weight_decay
        Share of each weight that is taken off per step, times the learning rate: ``w -= rate *
        weight_decay * w`` before the update, apart from the gradient (Loshchilov & Hutter 2019).
        Arrays with a single axis are exempt: biases, and scales of a norm.
    ema_momentum
        Share of the average of the weights that stays in each step, from 0 to below 1:
        ``average = ema_momentum * average + (1 - ema_momentum) * w``, from the first step's weights
        on (Polyak & Juditsky 1992). A `Trainer` evaluates and keeps the averages. None has none.
    layers
        Settings of single layers by name, such as ``{"rnn": {"learning_rate": 0.1, "clip_norm":
        0.25, "schedule": ..., "weight_decay": 0, "trainable": False}}``; they replace the
        settings above. A layer that is not ``trainable`` keeps its weights.
    """

    def __init__(
        self,
        learning_rate: float,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        clip_global_norm: float | None = None,
        weight_decay: float = 0.0,
        warmup_epochs: float = 0.0,
        ema_momentum: float | None = None,
        layers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.schedule = schedule or Constant()
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.weight_decay, self.warmup_epochs = weight_decay, warmup_epochs
        self.ema_momentum = ema_momentum
        if ema_momentum is not None:
            _check_memories(ema_momentum=ema_momentum)
        self.layers = {name: dict(settings) for name, settings in (layers or {}).items()}
        self.state: dict[str, dict[str, Array]] = {}
        self.n_steps = 0
        positive = ("learning_rate", "clip_norm", "clip_global_norm")
        for place, value in (pair for key in positive for pair in self._set(key)):
            no_limit = value is None and not place.endswith("learning_rate")
            if not no_limit and (value is None or not value > 0):
                raise ConfigError(f"optimizer.{place}={value} must be above 0")
        at_least_0 = [("warmup_epochs", warmup_epochs), *self._set("weight_decay")]
        for place, value in at_least_0:
            if value is None or not value >= 0:
                raise ConfigError(f"optimizer.{place}={value} must be 0 (none) or more")

    def reset(self) -> None:
        """Delete the state of all steps; the next step is the first."""
        self.state, self.n_steps = {}, 0

    def check_layers(self, names: list[str]) -> None:
        """Raise ConfigError if a layer with settings, or one of its settings, does not exist."""
        for layer, settings in self.layers.items():
            if layer not in names:
                raise ConfigError(
                    f"optimizer.layers names '{layer}', the model has {', '.join(names)}"
                )
            for key in settings:
                if key not in _LAYER_KEYS:
                    known = ", ".join(_LAYER_KEYS)
                    raise ConfigError(
                        f"optimizer.layers.{layer}.{key} does not exist: choose from {known}"
                    )
            trainable = settings.get("trainable", True)
            if not isinstance(trainable, bool):
                raise ConfigError(
                    f"optimizer.layers.{layer}.trainable={trainable} must be true or false"
                )
        if not any(self.is_trained(name) for name in names):
            raise ConfigError("optimizer.layers leaves no layer trainable: there is none to train")

    def is_trained(self, layer: str) -> bool:
        """Tell whether the weights of a layer change."""
        return bool(self.layers.get(layer, {}).get("trainable", True))

    def averages(self) -> dict[str, dict[str, Array]]:
        """Return the averages of the weights by layer and name: the arrays themselves."""
        averages: dict[str, dict[str, Array]] = {}
        for key, buffers in self.state.items():
            if self.ema_momentum is not None and "average" in buffers:
                layer, _, name = key.partition(".")
                averages.setdefault(layer, {})[name] = buffers["average"]
        return averages

    def rate(self, layer: str, epoch: int, batch: int = 0, n_batches: int = 1) -> float:
        """Return the learning rate of a layer in a batch of an epoch, both from 0."""
        settings = self.layers.get(layer, {})
        schedule = settings.get("schedule") or self.schedule
        factor = schedule.factor(epoch + batch / n_batches if schedule.per_batch else epoch)
        if self.warmup_epochs > 0:
            factor *= min(1.0, (epoch + (batch + 1) / n_batches) / self.warmup_epochs)
        return float(settings.get("learning_rate", self.learning_rate) * factor)

    def follow(self, history: History) -> None:
        """Let the schedules look at the epochs so far: see `Schedule.follow`."""
        self.schedule.follow(history)
        for settings in self.layers.values():
            if settings.get("schedule"):
                settings["schedule"].follow(history)

    def step(
        self,
        params: Parameters,
        grads: Gradients,
        epoch: int = 0,
        batch: int = 0,
        n_batches: int = 1,
    ) -> None:
        """Change ``params`` in place by one step along ``grads``; see `rate` for the others."""
        self.n_steps += 1
        grads = {layer: group for layer, group in grads.items() if self.is_trained(layer)}
        for layer, layer_grads in self._clipped(grads).items():
            rate = self.rate(layer, epoch, batch, n_batches)
            decay = self._setting(layer, "weight_decay")
            for name, gradient in layer_grads.items():
                w = params[layer][name]
                if not w.flags.c_contiguous:  # reshape would copy it, and it would not change
                    raise ConfigError(f"{layer}.{name} must be in C order: np.ascontiguousarray")
                if decay and w.ndim > 1:
                    w *= w.dtype.type(1 - rate * decay)
                self._update(f"{layer}.{name}", w, gradient, rate)
                if self.ema_momentum is not None:
                    self._average(f"{layer}.{name}", w, self.ema_momentum)

    def _average(self, key: str, w: Array, momentum: float) -> None:
        buffers = self.state.setdefault(key, {})
        if "average" not in buffers:
            buffers["average"] = w.copy()
            return
        scalars = map(w.dtype.type, (momentum, 1 - momentum))
        _update(update.ema, [buffers["average"].reshape(-1), w.reshape(-1)], *scalars)

    @abstractmethod
    def _update(self, key: str, w: Array, g: "Array | FactoredGradient", rate: float) -> None:
        """Change ``w`` in place; ``key`` names it in ``self.state``."""

    def _buffers(self, key: str, w: Array, *names: str) -> list[Array]:
        if key not in self.state:
            self.state[key] = {name: np.zeros_like(w) for name in names}
        buffers = self.state[key]
        if any(name not in buffers or buffers[name].shape != w.shape for name in names):
            raise ConfigError(f"the optimizer's memory of {key} is of another model: call reset()")
        return [buffers[name].reshape(-1) for name in names]

    def _setting(self, layer: str, key: str) -> Any:
        """Return a setting of a layer: its own, or the one for all."""
        return self.layers.get(layer, {}).get(key, getattr(self, key))

    def _set(self, key: str) -> list[tuple[str, Any]]:
        """Return the value of a setting wherever it is set, with the place."""
        of_layers = [(f"layers.{k}.{key}", s[key]) for k, s in self.layers.items() if key in s]
        return [(key, getattr(self, key)), *of_layers]

    def _clipped(self, grads: Gradients) -> Gradients:
        limits = {name: self._setting(name, "clip_norm") for name in grads}
        if self.clip_global_norm is None and not any(limits.values()):
            return grads
        clipped = {
            layer: {n: as_array(g) for n, g in group.items()} for layer, group in grads.items()
        }
        for layer, limit in limits.items():
            _scale_to(limit, _norm(clipped[layer]), clipped[layer])
        total = sqrt(sum(_norm(group) ** 2 for group in clipped.values()))
        for group in clipped.values():
            _scale_to(self.clip_global_norm, total, group)
        return clipped


def _scale_to(limit: float | None, norm: float, group: dict[str, Array]) -> None:
    if limit is not None and norm > limit:
        for name, g in group.items():
            group[name] = g * g.dtype.type(limit / norm)


@final
class SGD(Optimizer):
    """``w -= learning_rate * g``; with momentum, ``v = momentum * v + g; w -= learning_rate * v``.

    Parameters
    ----------
    momentum
        From 0 (plain) to below 1.
    options
        See `Optimizer`.
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        _check_memories(momentum=momentum)
        self.momentum = momentum

    def _update(self, key: str, w: Array, g: "Array | FactoredGradient", rate: float) -> None:
        if self.momentum == 0 and isinstance(g, FactoredGradient):
            g.add_to(w, -rate)
            return
        flat, number = as_array(g).reshape(-1), w.dtype.type
        if self.momentum == 0:
            _update(update.sgd, [w.reshape(-1), flat], number(rate))
        else:
            (v,) = self._buffers(key, w, "v")
            arrays = [w.reshape(-1), flat, v]
            _update(update.momentum, arrays, number(rate), number(self.momentum))


@final
class RMSprop(Optimizer):
    """``v = rho v + (1 - rho) g**2; w -= rate * g / (sqrt(v) + epsilon)`` (Tieleman & Hinton 2012).

    Parameters
    ----------
    rho
        Memory of the square of the gradient, from 0 to below 1.
    momentum
        Share of the last step that goes into the next, from 0 (none) to below 1.
    epsilon
        Added to the root of the square.
    options
        See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        _check_memories(rho=rho, momentum=momentum)
        self.rho, self.momentum, self.epsilon = rho, momentum, epsilon

    def _update(self, key: str, w: Array, g: "Array | FactoredGradient", rate: float) -> None:
        flat, number = as_array(g).reshape(-1), w.dtype.type
        scalars = [number(x) for x in (rate, self.rho, 1 - self.rho, self.epsilon)]
        if self.momentum == 0:
            (v,) = self._buffers(key, w, "v")
            _update(update.rmsprop, [w.reshape(-1), flat, v], *scalars)
        else:
            v, step = self._buffers(key, w, "v", "step")
            arrays = [w.reshape(-1), flat, v, step]
            _update(update.rmsprop_momentum, arrays, *scalars, number(self.momentum))


class _AdamRule(Optimizer):
    """The update of Adam (Kingma & Ba 2015)."""

    def __init__(
        self, learning_rate: float, beta1: float, beta2: float, epsilon: float, **options: Any
    ) -> None:
        super().__init__(learning_rate, **options)
        _check_memories(beta1=beta1, beta2=beta2)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def _update(self, key: str, w: Array, g: "Array | FactoredGradient", rate: float) -> None:
        m, v = self._buffers(key, w, "m", "v")
        scalars = (
            rate / (1 - self.beta1**self.n_steps),
            self.beta1,
            1 - self.beta1,
            self.beta2,
            1 - self.beta2,
            sqrt(1 - self.beta2**self.n_steps),
            self.epsilon,
        )
        arrays = [w.reshape(-1), as_array(g).reshape(-1), m, v]
        _update(update.adam, arrays, *map(w.dtype.type, scalars))


@final
class Adam(_AdamRule):
    """Adam (Kingma & Ba 2015).

    Parameters
    ----------
    beta1, beta2
        Decay rates of the means of the gradient and of its square, from 0 to below 1.
    epsilon
        Added to the root of the mean square.
    options
        See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **options)


@final
class AdamW(_AdamRule):
    """Adam that decays weights by default (Loshchilov & Hutter 2019); options as in `Adam`."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        **options: Any,
    ) -> None:
        options["weight_decay"] = weight_decay
        super().__init__(learning_rate, beta1, beta2, epsilon, **options)


def _check_memories(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"optimizer.{name}={value} must be from 0 to below 1")
