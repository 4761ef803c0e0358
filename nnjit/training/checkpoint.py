"""Checkpoints: files from which an interrupted training run is resumed, with the same bits."""

import contextlib
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ..errors import CheckpointError, ConfigError, short
from ..options import expect
from ..storage.files import Format, Groups, pack, pack_groups, unpack, unpack_groups
from . import metrics
from .callbacks import Callback, Position, Progress
from .history import Epoch, Evaluation, History

FILE_NAME = "checkpoint.pkl"  # in the folder of a run
FORMAT = Format("checkpoint", 1, ("state", "about"), CheckpointError)
_MAX_FRACTION = 0.05  # of the time that writing checkpoints may take


@final
@dataclass(frozen=True)
class TrainingState:
    """The state of a training run between two batches.

    ``memory`` and ``n_steps`` are the state of the optimizer; ``best`` are the parameters of the
    best epoch, if they are saved. The random streams of an epoch follow from ``seed``.
    """

    seed: int
    n_batches: int
    position: Position
    stop: bool
    params: Groups
    best: Groups
    optimizer: str
    n_steps: int
    memory: Groups
    history: History

    @classmethod
    def of(cls, progress: Progress) -> "TrainingState | None":
        """Return the state, which shares its arrays with the run; None while they change."""
        optimizer, position = progress.optimizer, progress.position
        if optimizer is None or position is None:
            return None
        return cls(
            seed=progress.seed,
            n_batches=progress.n_batches,
            position=position,
            stop=progress.stop,
            params=progress.model.params,
            best=progress.best,
            optimizer=type(optimizer).__name__,
            n_steps=optimizer.n_steps,
            memory=optimizer.state,
            history=progress.history,
        )

    def restore(self, progress: Progress) -> None:
        """Set a run that has not begun to this state; CheckpointError if it does not fit."""
        optimizer, model = progress.optimizer, progress.model
        assert optimizer is not None
        for name, recorded, current in (
            ("seed", self.seed, progress.seed),
            ("optimizer", self.optimizer, type(optimizer).__name__),
            ("number of batches", self.n_batches, progress.n_batches),
            ("monitor", self.history.monitor, progress.history.monitor),
            ("layers", _shapes(self.params), _shapes(model.params)),
        ):
            if recorded != current:
                raise CheckpointError(
                    f"the checkpoint is of another run: {name} {short(recorded)}, "
                    f"not {short(current)}"
                )
        model.set_params({k: dict(group) for k, group in self.params.items()})
        optimizer.state = {k: dict(group) for k, group in self.memory.items()}
        optimizer.n_steps = self.n_steps
        progress.best = {k: dict(group) for k, group in self.best.items()}
        progress.history, progress.position, progress.stop = self.history, self.position, self.stop
        progress.epoch = len(self.history.epochs)

    def check_sets(self, sizes: Mapping[str, int], values: Collection[str], n_classes: int) -> None:
        """Check that the history has these sets, with so many clips, and these values.

        Values that follow from the confusion matrix may be missing: older versions had fewer.

        Raises
        ------
        CheckpointError
            If it has others.
        """
        for epoch in self.history.epochs:
            shapes = {name: e.confusion.shape for name, e in epoch.sets.items()}
            same = shapes == dict.fromkeys(sizes, (n_classes, n_classes))
            if not same or not all(_fit(set(e.values), set(values)) for e in epoch.sets.values()):
                raise CheckpointError("the checkpoint is of a run with other sets or classes")
            for name, e in epoch.sets.items():
                if e.probabilities.size and len(e.probabilities) != sizes[name]:
                    raise CheckpointError(f"the checkpoint is of other clips in the set {name}")

    def pack(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {key: getattr(self, key) for key in _PLAIN}
        groups = {key: pack_groups(getattr(self, key)) for key in _GROUPS}
        history = _pack_history(self.history, self.position.epoch)
        return {**plain, **groups, "position": asdict(self.position), "history": history}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> "TrainingState":
        """Return the state from `pack`; ConfigError or ValueError if it is not valid."""
        groups = dict.fromkeys(_GROUPS, dict)
        expect("the state", packed, position=dict, history=dict, **_PLAIN, **groups)
        position = _unpack_position(packed["position"])
        history = _unpack_history(packed["history"])
        if min(packed["seed"], packed["n_batches"] - 1, packed["n_steps"]) < 0:
            raise ValueError("a number of it is below 0")
        if position.epoch != len(history.epochs) or position.batch > packed["n_batches"]:
            raise ValueError(
                f"it is at epoch {position.epoch}, batch {position.batch}, and has "
                f"{len(history.epochs)} epochs of {packed['n_batches']} batches"
            )
        plain: dict[str, Any] = {key: packed[key] for key in _PLAIN}
        arrays: dict[str, Any] = {key: unpack_groups(packed[key]) for key in _GROUPS}
        state = cls(position=position, history=history, **plain, **arrays)
        state._check_arrays()
        return state

    def _check_arrays(self) -> None:
        """Check the shapes of best parameters and optimizer memory: kernels do not check them."""
        shapes = {
            f"{k}.{n}": (w.dtype, w.shape) for k, g in self.params.items() for n, w in g.items()
        }
        best = {f"{k}.{n}": (w.dtype, w.shape) for k, g in self.best.items() for n, w in g.items()}
        if best and best != shapes:
            raise ValueError("its best parameters have other shapes than the last ones")
        for key, group in self.memory.items():
            if any((w.dtype, w.shape) != shapes.get(key) for w in group.values()):
                raise ValueError(f"the memory of {short(key)} is of another shape")
        if any(shape[0].kind != "f" for shape in shapes.values()):
            raise ValueError("its parameters are no floats")


_PLAIN = {"seed": int, "n_batches": int, "stop": bool, "optimizer": str, "n_steps": int}
_GROUPS = ("params", "best", "memory")


@final
class Checkpoint(Callback):
    """Writes the state of a training run to a file, every few seconds and on Ctrl-C.

    `Checkpoint.read` and ``Trainer.fit(..., resume=...)`` resume from it. It is written between two
    batches, and replaces the previous one atomically.

    Parameters
    ----------
    path
        The file.
    every
        Seconds from one checkpoint to the next, above 0; more if writing takes long, so that it
        takes at most a twentieth of the time.
    about
        Plain values to store in the file.
    """

    def __init__(
        self, path: str | Path, every: float = 5.0, about: dict[str, Any] | None = None
    ) -> None:
        if not isinstance(every, int | float) or not every > 0:
            raise ConfigError(
                f"checkpoint_every={every} must be above 0 seconds, or null for no checkpoints"
            )
        self.path, self.every, self.about = Path(path), every, about or {}
        self._due = 0.0

    def begin(self) -> None:
        """Write a file with ``about`` and no state, before training."""
        FORMAT.write(self.path, {"state": None, "about": self.about})

    def on_train_begin(self, progress: Progress) -> None:
        """Start the clock."""
        self._due = time.monotonic() + self.every

    def on_batch_end(self, progress: Progress) -> None:
        """Write a checkpoint if one is due."""
        if time.monotonic() >= self._due:
            self.save(progress)

    def on_train_end(self, progress: Progress) -> None:
        """Write the final state, from which an incomplete record can be completed."""
        with contextlib.suppress(OSError):  # the last checkpoint remains
            self.save(progress)

    def on_interrupt(self, progress: Progress) -> None:
        """Write a checkpoint, unless parameters were being changed: the last one then remains."""
        self.save(progress)

    def save(self, progress: Progress) -> None:
        """Write the state of the run; OSError if the disk is full, and the old file stays."""
        state, began = TrainingState.of(progress), time.monotonic()
        if state is not None:
            FORMAT.write(self.path, {"state": state.pack(), "about": self.about})
        took = time.monotonic() - began
        self._due = began + took + max(self.every, took / _MAX_FRACTION)

    def remove(self) -> None:
        """Delete the file, and incomplete files of a killed process."""
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*")):
            if path != _lock_path(self.path):
                path.unlink(missing_ok=True)

    @staticmethod
    def read(path: str | Path) -> tuple[TrainingState | None, dict[str, Any]]:
        """Return the state, None if it was written before training, and ``about``.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged, altered or not a checkpoint of this version.
        """
        content = FORMAT.read(path)
        try:
            expect("a checkpoint", content, state=dict | None, about=dict)
            state = content["state"]
            return None if state is None else TrainingState.unpack(state), content["about"]
        except Exception as error:  # altered values can cause any error
            raise CheckpointError(f"{path} is damaged or altered: {short(error)}") from None


@contextlib.contextmanager
def run_lock(path: Path, timeout: float = 1.0) -> Iterator[None]:
    """Lock the run of a checkpoint against other processes; the lock ends with the process.

    Raises
    ------
    CheckpointError
        If another process holds the lock.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(path))
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise CheckpointError(f"another process is still at work on {path.parent}") from None
    try:
        yield
    finally:
        _lock_path(path).unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Tell whether a process on this machine holds the lock of a checkpoint's run."""
    if not _lock_path(path).exists():
        return False
    try:
        with run_lock(path, timeout=0):
            return False
    except CheckpointError:
        return True


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _fit(recorded: set[str], values: set[str]) -> bool:
    return recorded <= values and recorded >= values.intersection(metrics.names("losses"))


def _shapes(groups: Groups) -> dict[str, dict[str, str]]:
    return {k: {n: f"{w.dtype} {w.shape}" for n, w in g.items()} for k, g in groups.items()}


def _pack_history(history: History, n_epochs: int) -> dict[str, Any]:
    """Return the first epochs as plain values: a column for each value of each set."""
    epochs = history.epochs[:n_epochs]
    sets = {
        name: _pack_evaluations([epoch.sets[name] for epoch in epochs])
        for name in (epochs[0].sets if epochs else ())
    }
    rates = {k: _column([e.rates[k] for e in epochs]) for k in (epochs[0].rates if epochs else ())}
    seconds = _column([epoch.train_seconds for epoch in epochs])
    return {"monitor": history.monitor, "seconds": seconds, "rates": rates, "sets": sets}


def _pack_evaluations(evaluations: list[Evaluation]) -> dict[str, Any]:
    undefined = {name for e in evaluations for name in e.undefined}
    names = list(evaluations[0].values)
    return {
        "values": {k: _column([e.values[k] for e in evaluations]) for k in names},
        "undefined": {
            k: _column([k in e.undefined for e in evaluations]) for k in names if k in undefined
        },
        "confusion": _column([e.confusion for e in evaluations]),
        "probabilities": {
            str(i): pack(e.probabilities) for i, e in enumerate(evaluations) if e.probabilities.size
        },
    }


def _unpack_position(packed: dict[str, Any]) -> Position:
    expect("the position", packed, epoch=int, batch=int, dropout=dict | None, seconds=float)
    position = Position(**packed)
    if min(position.epoch, position.batch) < 0 or not 0 <= position.seconds < math.inf:
        raise ValueError("a number of its position is below 0, or no number")
    if position.dropout is not None:  # raises ValueError if the state is not valid
        np.random.default_rng(0).bit_generator.state = position.dropout
    return position


def _unpack_history(packed: dict[str, Any]) -> History:
    expect("the history", packed, monitor=str, seconds=dict, rates=dict, sets=dict)
    history = History(packed["monitor"])
    seconds = _values(packed["seconds"])
    rates = {k: _values(column, len(seconds)) for k, column in packed["rates"].items()}
    sets = {name: _unpack_evaluations(e, len(seconds)) for name, e in packed["sets"].items()}
    for i, took in enumerate(seconds):
        rate = {k: column[i] for k, column in rates.items()}
        history.add(Epoch(i, rate, {name: e[i] for name, e in sets.items()}, took))
    return history


def _unpack_evaluations(packed: dict[str, Any], n: int) -> list[Evaluation]:
    """Return the evaluations of a set in ``n`` epochs."""
    expect("a set", packed, values=dict, undefined=dict, confusion=dict, probabilities=dict)
    confusions, empty = unpack(packed["confusion"]), np.empty(0, np.float32)
    classes = confusions.shape[-1]
    if confusions.shape != (n, classes, classes) or confusions.dtype != np.int64:
        raise ValueError(f"its confusion matrices are {confusions.dtype} {confusions.shape}")
    values = {k: _values(column, n) for k, column in packed["values"].items()}
    undefined = {k: _values(column, n, "b") for k, column in packed["undefined"].items()}
    probabilities = {}
    for i, p in packed["probabilities"].items():
        if not i.isdecimal() or not int(i) < n:
            raise ValueError(f"it has probabilities of epoch {short(i)} of {n}")
        probabilities[int(i)] = unpack(p)
        if probabilities[int(i)].ndim != 2 or probabilities[int(i)].dtype.kind != "f":
            raise ValueError("its probabilities are no table")
    return [
        Evaluation(
            {k: column[i] for k, column in values.items()},
            [k for k, column in undefined.items() if column[i]],
            confusion,
            probabilities.get(i, empty),
        )
        for i, confusion in enumerate(confusions)
    ]


def _values(packed: dict[str, Any], n: int | None = None, kind: str = "f") -> list[Any]:
    """Return a column: a value for each epoch."""
    column = unpack(packed)
    if column.shape != (len(column) if n is None else n,) or column.dtype.kind != kind:
        raise ValueError(f"a column of its history is {column.dtype} {column.shape}")
    return list(column.tolist())


def _column(values: list[Any]) -> dict[str, Any]:
    return pack(np.array(values))
