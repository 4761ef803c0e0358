"""The training loop: epochs, batches and evaluation, without tracking and terminal."""

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..datasets.clips import DataSplits
from ..errors import ConfigError, DivergedError
from ..layers import Bptt
from ..layers.recurrent import Recurrent
from ..model import Sequential
from ..parts import Part
from ..ragged import AnyData, Ragged
from ..runtime import signals
from ..runtime.threads import set_threads
from . import losses, metrics, sampling
from .augmentation import Augmentation, Augmenter
from .callbacks import Batch, Callback, Position, Progress
from .checkpoint import TrainingState
from .history import Epoch, Evaluation, History
from .optimizers import Optimizer
from .task import Arrays, Task, check_arrays

Array = NDArray[Any]
_REDUCTIONS = ("mean", "sum")
_FALLBACK = ("val", "test")  # sets that data may lack: the training set is then monitored
# Independent streams of random numbers: drawing more from one does not change the others.
_INIT, _SHUFFLE, _DROPOUT, _AUGMENT = range(4)


@final
class Trainer(Part):
    """Settings of a training run; `fit` runs it.

    Parameters
    ----------
    optimizer
        Changes the parameters after each batch.
    loss
        Name of a loss, see `nnjit.losses`.
    epochs
        Number of passes over the training set in each `fit`, 1 or more.
    batch_size
        Clips per step; None takes all at once.
    drop_last
        Skip the last batch of an epoch if it is smaller.
    reduction
        "mean" or "sum" of the gradients of a batch. A sum at learning rate r is a mean at
        ``r * batch_size``.
    seed
        Seed of initial parameters, order of batches and dropout; None draws one, as ``seed`` shows.
    threads
        Number of threads, None for one per core. It changes no result.
    monitor
        ``set/metric`` that decides the best epoch; without a set, that of the validation set. If
        there is no such set, the training set is used, with a warning.
    restore_best
        Give the model the parameters of the best epoch at the end, instead of the last.
    bptt
        Settings of back-propagation through time.
    sampler
        "shuffle" takes each training clip once an epoch, "balanced" as many of each class; see
        `sampling.order`.
    class_weight
        What the loss of a training clip is multiplied by: None, "balanced", or numbers by class;
        see `sampling.class_weights`. The mean of a batch is over its clips, not over the weights.
    label_smoothing
        Share of each training target that all classes get alike, from 0 to below 1.
    augmentation
        By name, what changes training clips a little each time, see `nnjit.augmentation`; what is
        None is left out.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        loss: str = "mse",
        epochs: int = 10,
        batch_size: int | None = 16,
        drop_last: bool = True,
        reduction: str = "mean",
        seed: int | None = 0,
        threads: int | None = None,
        monitor: str = "val/accuracy",
        restore_best: bool = False,
        bptt: Bptt | None = None,
        sampler: str = "shuffle",
        class_weight: sampling.ClassWeight = None,
        label_smoothing: float = 0.0,
        augmentation: Mapping[str, Augmentation | None] | None = None,
    ) -> None:
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            one_batch = name == "batch_size" and value is None
            if not one_batch and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"trainer.{name}={value} must be a whole number, 1 or more")
        if reduction not in _REDUCTIONS:
            known = ", ".join(_REDUCTIONS)
            raise ConfigError(f"trainer.reduction={reduction} does not exist: choose from {known}")
        if monitor.split("/")[-1] not in metrics.monitored():
            known = ", ".join(metrics.monitored())
            raise ConfigError(
                f"trainer.monitor={monitor} is not measured in every epoch: "
                f"after the set, choose from {known}"
            )
        if seed is not None and seed < 0:
            raise ConfigError(f"seed={seed} must be 0 or more, or null for a new one each time")
        sampling.check(sampler, label_smoothing, class_weight)
        self.optimizer = optimizer
        self.loss = losses.get(loss)
        self.epochs, self.batch_size = epochs, batch_size
        self.drop_last, self.reduction = drop_last, reduction
        self.sampler, self.class_weight = sampler, class_weight
        self.label_smoothing, self.augmenter = label_smoothing, Augmenter(augmentation)
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.threads = threads
        self.monitor, self.restore_best = monitor, restore_best
        self.bptt = bptt or Bptt()
        self._fitted: Sequential | None = None

    def fit(
        self,
        model: Sequential,
        data: DataSplits | Arrays | Task,
        callbacks: Sequence[Callback] = (),
        resume: TrainingState | None = None,
    ) -> History:
        """Train a model; it is built first if necessary.

        Parameters
        ----------
        model
            Changed in place.
        data
            The splits of a data set; or ``{"train": (x, labels), "val": (x, labels), ...}`` with
            x as in `Sequential.forward` and labels (N,) from 0 on; or the result of `prepare`.
        callbacks
            Observers, called in order.
        resume
            A state from `Checkpoint.read`. With the same settings, model and data, the result has
            the same bits as without the interruption. None starts at epoch 0.

        Raises
        ------
        DivergedError
            If the loss of a batch or a set is NaN or infinite.
        CheckpointError
            If ``resume`` is from other settings or another model.
        ConfigError, DataError, ShapeError
            If settings, data and model do not fit each other.
        KeyboardInterrupt
            After Ctrl-C, SIGTERM and SIGHUP, after `Callback.on_interrupt`. The latter two then end
            the process, unless the program has its own handlers.
        """
        with signals.heard():
            return self._fit(model, data, callbacks, resume)

    def _fit(
        self,
        model: Sequential,
        data: DataSplits | Arrays | Task,
        callbacks: Sequence[Callback],
        resume: TrainingState | None,
    ) -> History:
        task = data if isinstance(data, Task) else self.prepare(model, data)
        progress = self._begin(model, task, resume)
        for callback in callbacks:
            callback.on_train_begin(progress)
        try:
            while not progress.finished:
                self._run_epoch(progress, task, callbacks)
        except KeyboardInterrupt:
            for callback in callbacks:
                callback.on_interrupt(progress)
            raise
        if self.restore_best:
            model.set_params(progress.best)
            progress.history.restored = True
        else:
            model.set_params(self.optimizer.averages())
        for callback in callbacks:
            callback.on_train_end(progress)
        return progress.history

    def evaluate(
        self,
        model: Sequential,
        x: AnyData,
        labels: NDArray[np.int64],
        n_classes: int = 2,
        positive: int = 1,
        classes: tuple[str, ...] = (),
    ) -> Evaluation:
        """Return loss, metrics and probabilities on a set, with dropout off.

        Parameters
        ----------
        x
            From `Sequential.check`.
        labels : (N,)
        """
        logits = model.logits(x)
        values, _ = self.loss(logits, model.activation, self._targets(model, labels))
        p = model.activation.forward(logits.T).T
        confusion = metrics.confusion_matrix(labels, model.most_probable(p), n_classes)
        scores, undefined = metrics.scores(confusion, positive, classes)
        means = {k: float(metrics.METRICS[k].function(values)) for k in metrics.names("losses")}
        return Evaluation({**means, **scores}, undefined, confusion, p)

    def _stream(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def prepare(self, model: Sequential, data: DataSplits | Arrays) -> Task:
        """Build the model if necessary, and check it against the settings and every set."""
        set_threads(self.threads)
        for layer in model.layers:
            for part in layer.inner():
                if isinstance(part, Recurrent):
                    part.bptt = self.bptt
        if isinstance(data, DataSplits):
            arrays: Arrays = {name: (c.codes, c.labels) for name, c in data.sets().items()}
            n_classes = len(data.classes)
        else:
            check_arrays(data)
            arrays = data
            n_classes = max(2, 1 + max(int(np.max(labels)) for _, labels in data.values()))
        self._build(model, data)
        self.augmenter.fit(model.inputs, getattr(data, "encoding", None))
        self.loss.check(model.activation)
        self.optimizer.check_layers(list(model.params))
        if model.head.units not in {n_classes, 1 if n_classes == 2 else n_classes}:
            raise ConfigError(
                f"the model has {model.head.units} outputs for {n_classes} classes: "
                f"give the last layer units={n_classes}"
            )
        sets = {name: (model.check(x), np.asarray(labels)) for name, (x, labels) in arrays.items()}
        n_batches, monitor = self._count_batches(len(sets["train"][0])), self._monitor(sets)
        meaning: dict[str, Any] = {}
        if isinstance(data, DataSplits):
            meaning = {"positive": data.positive, "classes": data.classes}
        weights = sampling.class_weights(
            self.class_weight, sets["train"][1], n_classes, meaning.get("classes", ())
        )
        return Task(sets, monitor, n_batches, n_classes, **meaning, class_weights=weights)

    def _build(self, model: Sequential, data: DataSplits | Arrays) -> None:
        inputs = None
        if isinstance(data, DataSplits):
            inputs = data.encoding.inputs
        if model.inputs is None:
            if inputs is None:
                raise ConfigError(
                    "build the model for these arrays first: model.build(Signal(T, D))"
                )
            model.build(inputs, self._stream(_INIT))
        elif inputs is not None and model.inputs != inputs:
            raise ConfigError(
                f"the model was built for {model.inputs}, the data set gives "
                f"{inputs}: build a new one"
            )

    def _count_batches(self, n_train: int) -> int:
        size = self.batch_size or n_train
        n_batches = n_train // size
        if not self.drop_last and n_train % size:
            n_batches += 1
        if n_batches == 0:
            raise ConfigError(
                f"trainer.batch_size={self.batch_size} is more than the {n_train} training clips: "
                "lower it, set trainer.drop_last=false, or null for one batch of all"
            )
        return n_batches

    def _begin(self, model: Sequential, task: Task, resume: TrainingState | None) -> Progress:
        history = History(task.monitor)
        progress = Progress(
            model, history, self.epochs, task.n_batches, self.optimizer, seed=self.seed
        )
        if resume is not None:
            resume.check_sets(*task.measures())
            resume.history.complete(task.positive, task.classes)
            resume.restore(progress)
        elif self._fitted is not model:  # the optimizer's memory is of another model
            self.optimizer.reset()
        self._fitted = model
        self.optimizer.follow(progress.history)
        return progress

    def _targets(self, model: Sequential, labels: NDArray[np.int64]) -> Array:
        units, dtype = model.head.units, np.dtype(model.dtype)
        if units == 1:
            return labels[:, None].astype(dtype)
        return np.eye(units, dtype=dtype)[labels]

    def _run_epoch(self, progress: Progress, task: Task, callbacks: Sequence[Callback]) -> None:
        model, history = progress.model, progress.history
        progress.epoch = epoch = len(history.epochs)
        with np.errstate(over="ignore", invalid="ignore"):  # `_check_finite` reports them
            seconds = self._train_epoch(progress, task, callbacks)
            averages = self.optimizer.averages()
            evaluated = model.with_params(averages) if averages else model
            evaluations = {
                name: self.evaluate(
                    evaluated, x, labels, task.n_classes, task.positive, task.classes
                )
                for name, (x, labels) in task.sets.items()
            }
        for name, evaluation in evaluations.items():
            self._check_finite(evaluation.values["loss"], f"epoch {epoch}, evaluating {name}")
        last = progress.n_batches - 1, progress.n_batches
        rates = {name: self.optimizer.rate(name, epoch, *last) for name in model.params}
        history.add(Epoch(epoch, rates, evaluations, seconds))
        self.optimizer.follow(history)
        if self.restore_best and history.best is history.last:
            progress.best = evaluated.copy_params()
        for callback in callbacks:
            callback.on_epoch_end(progress)
        progress.values = {}
        # Set last: a run that is interrupted above evaluates this epoch again when it is resumed.
        progress.position = Position(epoch + 1)

    def _train_epoch(self, progress: Progress, task: Task, callbacks: Sequence[Callback]) -> float:
        """Train on the remaining batches of an epoch; return the seconds of all its batches."""
        model, epoch, start = progress.model, progress.epoch, progress.position or Position()
        x, labels = task.sets["train"]
        size = self.batch_size or len(x)
        rng = self._stream(_SHUFFLE, epoch)
        order = sampling.order(self.sampler, labels, rng)
        if isinstance(x, Ragged):
            order = x.in_batches(order, size, rng)
        dropout = self._stream(_DROPOUT, epoch)
        if start.dropout is not None:
            dropout.bit_generator.state = start.dropout
        aims = [sampling.smoothed(self._targets(model, labels), self.label_smoothing)]
        if task.class_weights is not None:
            aims.append(task.class_weights[labels].astype(model.dtype))
        moves = any(part.moves for layer in model.layers for part in layer.inner())
        began = time.perf_counter() - start.seconds
        for batch in range(start.batch, progress.n_batches):
            rows = order[batch * size : (batch + 1) * size]
            clips, at, (wanted, *weights) = self._batch(x, rows, aims, (epoch, batch * size))
            if moves:
                progress.position = None
            logits, caches = model.forward_rows(clips, at, training=True, rng=dropout)
            values, dz = self.loss(logits, model.activation, wanted)
            for weight in weights:
                values, dz = values * weight, dz * weight[:, None]
            loss = float(values.mean())
            self._check_finite(loss, f"epoch {epoch}, batch {batch}")
            if self.reduction == "mean":
                dz /= len(rows)
            gradients = model.backward(dz, caches)
            progress.position = None
            self.optimizer.step(model.params, gradients, epoch, batch, progress.n_batches)
            seconds, state = time.perf_counter() - began, dropout.bit_generator.state
            progress.position = Position(epoch, batch + 1, dict(state), seconds)
            correct = model.most_probable(model.activation.forward(logits.T).T) == labels[rows]
            last = Batch(clips, at, gradients)
            progress.mark_batch(batch, loss, float(correct.mean()), last)
            for callback in callbacks:
                callback.on_batch_end(progress)
            progress.last_batch = None  # the memory of its gradients is free again
        return time.perf_counter() - began

    def _batch(
        self, x: AnyData, rows: Array, aims: Sequence[Array], place: tuple[int, int]
    ) -> tuple[AnyData, Array, Sequence[Array]]:
        """Return clips, the rows of a batch in them, and what of ``aims`` belongs to the batch."""
        aims = [aim[rows] for aim in aims]
        if not self.augmenter:
            return x, rows, aims
        clips, aims = self.augmenter.changed(x, rows, aims, place, partial(self._stream, _AUGMENT))
        return clips, np.arange(len(rows)), aims

    def _check_finite(self, loss: float, where: str) -> None:
        if not np.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} in {where}: lower "
                f"optimizer.learning_rate={self.optimizer.learning_rate}, "
                "or set optimizer.clip_norm"
            )

    def _monitor(self, sets: Mapping[str, Any]) -> str:
        name, _, metric = self.monitor.rpartition("/")
        name = name or "val"
        if name in sets:
            return f"{name}/{metric}"
        if name not in _FALLBACK:
            raise ConfigError(
                f"trainer.monitor={self.monitor} names no set: choose from {', '.join(sets)}"
            )
        warnings.warn(
            f"trainer.monitor={self.monitor}, but there is no set '{name}': "
            f"train/{metric} decides the best epoch",
            stacklevel=3,
        )
        return f"train/{metric}"
