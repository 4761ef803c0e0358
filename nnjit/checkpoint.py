"""Files from which an interrupted training run goes on, and ends with the same bits."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from .callbacks import Callback, Position, Progress
from .errors import CheckpointError, ConfigError
from .history import Epoch, Evaluation, History
from .persistence import Format, Groups, pack, pack_groups, unpack, unpack_groups

FILE_NAME = "checkpoint.pkl"  # in the folder of a run
FORMAT = Format("checkpoint", 1, ("state", "about"), CheckpointError)
_SHARE = 0.05  # of the time, at most, goes into checkpoints


@final
@dataclass(frozen=True)
class TrainingState:
    """What a training run has become at a place between two batches.

    ``memory`` and ``n_steps`` are those of the optimizer; ``best`` are the parameters of the best
    epoch, where they are kept. The random streams of an epoch follow from ``seed``.
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
        """Bring a run that has not begun to this state; CheckpointError where it is another."""
        optimizer, model = progress.optimizer, progress.model
        assert optimizer is not None
        for name, mine, its in (
            ("seed", self.seed, progress.seed),
            ("optimizer", self.optimizer, type(optimizer).__name__),
            ("number of batches", self.n_batches, progress.n_batches),
            ("monitor", self.history.monitor, progress.history.monitor),
            ("layers", _shapes(self.params), _shapes(model.params)),
        ):
            if mine != its:
                raise CheckpointError(f"the checkpoint is of another run: {name} {mine}, not {its}")
        model.set_params({k: dict(group) for k, group in self.params.items()})
        optimizer.state = {k: dict(group) for k, group in self.memory.items()}
        optimizer.n_steps = self.n_steps
        progress.best = {k: dict(group) for k, group in self.best.items()}
        progress.history, progress.position, progress.stop = self.history, self.position, self.stop
        progress.epoch = len(self.history.epochs)

    def pack(self) -> dict[str, Any]:
        """Return plain values."""
        rest = {key: getattr(self, key) for key in _PLAIN}
        groups = {key: pack_groups(getattr(self, key)) for key in _GROUPS}
        history = _pack_history(self.history, self.position.epoch)
        return {**rest, **groups, "position": asdict(self.position), "history": history}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> "TrainingState":
        """Return the state from `pack`; any exception where it is not sound."""
        position = Position(**packed["position"])
        history = _unpack_history(packed["history"])
        if position.epoch != len(history.epochs):
            raise ValueError(f"it has {len(history.epochs)} of {position.epoch} epochs")
        if position.dropout is not None:
            np.random.default_rng(0).bit_generator.state = position.dropout
        rest: dict[str, Any] = {key: packed[key] for key in _PLAIN}
        groups: dict[str, Any] = {key: unpack_groups(packed[key]) for key in _GROUPS}
        return cls(position=position, history=history, **rest, **groups)


_PLAIN = ("seed", "n_batches", "stop", "optimizer", "n_steps")
_GROUPS = ("params", "best", "memory")


@final
class Checkpoint(Callback):
    """Writes where a training run stands to a file, every few seconds and on Ctrl-C.

    `Checkpoint.read` and ``Trainer.fit(..., resume=...)`` go on from it. It is written between two
    batches and replaces the one before when it is whole.

    Parameters
    ----------
    path
        The file.
    every
        Seconds from one checkpoint to the next, above 0; more where writing takes long, so that it
        takes a twentieth of the time at most.
    about
        Plain values to keep in the file.
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
        """Write a file that says what the run is about, and that nothing was trained yet."""
        FORMAT.write(self.path, {"state": None, "about": self.about})

    def on_train_begin(self, progress: Progress) -> None:
        """Start the clock."""
        self._due = time.monotonic() + self.every

    def on_batch_end(self, progress: Progress) -> None:
        """Write, if it is time."""
        if time.monotonic() >= self._due:
            self.save(progress)

    def on_interrupt(self, progress: Progress) -> None:
        """Write, unless the parameters were just changing: the last checkpoint then remains."""
        self.save(progress)

    def save(self, progress: Progress) -> None:
        """Write where the run stands; OSError where the disk is full, and the old file stays."""
        state, began = TrainingState.of(progress), time.monotonic()
        if state is not None:
            FORMAT.write(self.path, {"state": state.pack(), "about": self.about})
        took = time.monotonic() - began
        self._due = began + took + max(self.every, took / _SHARE)

    def remove(self) -> None:
        """Delete the file, and what a killed process left of one that was not whole."""
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*")):
            if path != _lock_path(self.path):
                path.unlink(missing_ok=True)

    @staticmethod
    def read(path: str | Path) -> tuple[TrainingState | None, dict[str, Any]]:
        """Return the state, None where nothing was trained yet, and what it is about.

        Raises
        ------
        CheckpointError
            Where the file is missing, damaged, altered or not a checkpoint of this version.
        """
        content = FORMAT.read(path)
        try:
            state = content["state"]
            return None if state is None else TrainingState.unpack(state), dict(content["about"])
        except Exception as error:  # whatever the values lead to
            raise CheckpointError(f"{path} is damaged or altered: {error!r}") from None


@contextlib.contextmanager
def alone(path: Path, timeout: float = 1.0) -> Iterator[None]:
    """Keep other processes from the run of a checkpoint; the lock ends with the process.

    Raises
    ------
    CheckpointError
        Where another process has it.
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
    """Tell whether a process on this machine is at work on the run of a checkpoint."""
    if not _lock_path(path).exists():
        return False
    try:
        with alone(path, timeout=0):
            return False
    except CheckpointError:
        return True


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


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


def _unpack_history(packed: dict[str, Any]) -> History:
    history = History(packed["monitor"])
    rates = {k: unpack(column).tolist() for k, column in packed["rates"].items()}
    sets = {name: _unpack_evaluations(columns) for name, columns in packed["sets"].items()}
    for i, seconds in enumerate(unpack(packed["seconds"]).tolist()):
        rate = {k: column[i] for k, column in rates.items()}
        history.add(Epoch(i, rate, {name: e[i] for name, e in sets.items()}, seconds))
    return history


def _unpack_evaluations(packed: dict[str, Any]) -> list[Evaluation]:
    confusions, empty = unpack(packed["confusion"]), np.empty(0, np.float32)
    values = {k: unpack(column).tolist() for k, column in packed["values"].items()}
    undefined = {k: unpack(column).tolist() for k, column in packed["undefined"].items()}
    probabilities = {int(i): unpack(p) for i, p in packed["probabilities"].items()}
    return [
        Evaluation(
            {k: column[i] for k, column in values.items()},
            [k for k, column in undefined.items() if column[i]],
            confusion,
            probabilities.get(i, empty),
        )
        for i, confusion in enumerate(confusions)
    ]


def _column(values: list[Any]) -> dict[str, Any]:
    return pack(np.array(values))
