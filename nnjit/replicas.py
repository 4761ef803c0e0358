"""Several models trained in one pass: their recurrent layers walk through time together.

One model of few units leaves most of a core idle: each step waits for the one before it. Models
that differ in seed or learning rate alone share the steps of their recurrent layers, and fill each
other's waits. Each model is trained by a thread of its own, as if it were alone, and ends with the
same bits as alone; the threads meet where a recurrent layer is about to run.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

import numpy as np

from .callbacks import Callback, Progress
from .layers.base import Array, Gradients
from .layers.recurrent import Arrays, Recurrent, Walk
from .model import Sequential
from .threads import as_worker, get_threads, without_spinning

T = TypeVar("T")
_here = threading.local()  # the company of this thread, and its number there


class Stage:
    """What belongs to the process, and is each job's own while it is at work; nothing here."""

    def get(self) -> Any:
        """Return it as it is now."""

    def put(self, held: Any) -> None:
        """Make it again what `get` returned."""


def train_together(
    jobs: Sequence[Callable[[], T]], stage: Stage | None = None
) -> list[T | BaseException]:
    """Call the jobs, a thread each, and return their results or errors.

    Each job trains one model of the same architecture inside `meeting`; only there do the jobs run
    at the same time, before and after it one by one.

    Raises
    ------
    KeyboardInterrupt
        After all jobs have ended; Ctrl-C reaches every one of them.
    """
    company = _Company(len(jobs), stage or Stage())
    results: list[Any] = [None] * len(jobs)
    ended = [threading.Event() for _ in jobs]

    def run(i: int) -> None:
        _here.company, _here.number = company, i
        try:
            with as_worker(True), company.on_stage():
                try:
                    results[i] = jobs[i]()
                except BaseException as error:
                    results[i] = error
                finally:
                    company.leave()
        finally:
            ended[i].set()

    with without_spinning():
        company.run(run, ended)
    return results


@contextlib.contextmanager
def meeting(model: Sequential) -> Iterator[list[Callback]]:
    """Let a model's recurrent layers meet those of the other jobs, where `train_together` runs any.

    Yields callbacks that `Trainer.fit` needs for that.
    """
    company: _Company | None = getattr(_here, "company", None)
    if company is None:
        yield []
        return
    layers = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    for layer in layers:
        layer.company = company
    try:
        with company.off_stage():
            yield [_Interrupt(company)]
    finally:
        for layer in layers:
            layer.company = None


@final
class _Interrupt(Callback):
    """Ends a run where Ctrl-C was pressed; only the main thread hears of that by itself."""

    def __init__(self, company: "_Company") -> None:
        self._company = company

    def on_batch_end(self, progress: Progress) -> None:
        """Raise KeyboardInterrupt."""
        if self._company.interrupted:
            raise KeyboardInterrupt


@final
class _Call:
    """What one thread brings to a meeting, and takes away."""

    def __init__(self, kind: tuple[Any, ...], work: "Callable[[list[Any]], list[Any]]", args: Any):
        self.kind, self.work, self.args = kind, work, args
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False


@final
class _Company:
    """Where threads meet: when all are here, the last one does the work of all."""

    def __init__(self, members: int, stage: Stage) -> None:
        self.interrupted = False
        self._members = set(range(members))
        self._here: list[_Call] = []
        self._met = threading.Condition()
        self._cores: threading.Semaphore | None = None  # more jobs at once would get in the way
        self._stage, self._before = stage, stage.get()
        self._turn = threading.Lock()  # of the one job that is not training

    def run(self, job: Callable[[int], None], ended: Sequence[threading.Event]) -> None:
        """Start a thread for each job and wait for all; Ctrl-C is passed on to every one of them.

        Thread.join is no way to wait: once interrupted, it takes the thread for ended.
        """
        threads = [threading.Thread(target=job, args=(i,), daemon=True) for i in range(len(ended))]
        failure: BaseException | None = None
        try:
            for thread in threads:
                thread.start()
        except BaseException as error:
            self.interrupted, failure = True, error
            for i, thread in enumerate(threads):
                if thread.ident is None:
                    self.leave(i)
                    ended[i].set()
        while True:
            try:
                for event in ended:
                    event.wait()
                break
            except KeyboardInterrupt as error:
                self.interrupted, failure = True, error
        if failure is not None:
            raise failure

    @contextlib.contextmanager
    def on_stage(self) -> Iterator[None]:
        """Wait for this job's turn, and leave to the next one what was there before."""
        with self._turn:
            try:
                yield
            finally:
                self._stage.put(self._before)

    @contextlib.contextmanager
    def off_stage(self) -> Iterator[None]:
        """Leave the stage to other jobs, and come back to it as it was left."""
        mine = self._stage.get()
        self._stage.put(self._before)
        self._cores = self._cores or threading.Semaphore(get_threads())
        self._turn.release()
        try:
            with self._cores:
                yield
        finally:
            self.leave()
            self._turn.acquire()
            self._stage.put(mine)

    def leave(self, number: int | None = None) -> None:
        """Do not wait for this thread any more, or for one that never came."""
        with self._met:
            self._members.discard(_here.number if number is None else number)
            self._work_if_all_are_here()

    def forward(self, layer: Recurrent, x: Array, training: bool) -> tuple[Array, Any]:
        """Return the outputs of a layer, and the cache that `backward` takes."""
        kind = ("forward", layer.name, training, x.shape)
        return self._meet(_Call(kind, _forward, (layer, x, training)))

    def backward(self, layer: Recurrent, dy: Array, cache: Any) -> tuple[Array | None, Gradients]:
        """Return the gradients of the inputs and of the parameters of a layer."""
        kind = ("backward", layer.name, dy.shape, id(cache.walk))
        return self._meet(_Call(kind, _backward, (layer, dy, cache)))

    def _meet(self, call: _Call) -> Any:
        assert self._cores is not None
        self._cores.release()
        with self._met:
            self._here.append(call)
            self._work_if_all_are_here()
            while not call.done:
                self._met.wait()
        self._cores.acquire()
        if call.error is not None:
            raise call.error
        return call.result

    def _work_if_all_are_here(self) -> None:
        if len(self._here) < len(self._members):
            return
        kinds: dict[Any, list[_Call]] = {}
        for call in self._here:
            kinds.setdefault(call.kind, []).append(call)
        for calls in kinds.values():
            try:
                with as_worker(False), np.errstate(over="ignore", invalid="ignore"):
                    results = calls[0].work([call.args for call in calls])
                for call, result in zip(calls, results, strict=True):
                    call.result = result
            except BaseException as error:
                for call in calls:
                    call.error = error
        for call in self._here:
            call.done = True
        self._here = []
        self._met.notify_all()


@final
@dataclass(frozen=True)
class _Share:
    """The tiles of one layer in a walk of several."""

    walk: Walk
    tiles: slice


def _stacked(layers: Sequence[Recurrent], tiles: int) -> Arrays:
    """Return the parameters of the layers, for each of their tiles."""
    stacks = {k: np.stack([layer.params[k] for layer in layers]) for k in layers[0].params}
    return {k: np.repeat(v, tiles, axis=0) if tiles > 1 else v for k, v in stacks.items()}


def _forward(calls: list[Any]) -> list[Any]:
    layers, xs, (training, *_) = zip(*calls, strict=True)
    k = len(xs[0])
    y, walk = layers[0].forward_with(_stacked(layers, k), np.concatenate(xs), training)
    parts = [slice(i * k, (i + 1) * k) for i in range(len(calls))]
    return [(y[part], _Share(walk, part)) for part in parts]


def _backward(calls: list[Any]) -> list[Any]:
    """Go back together where all who went forward are here, else one by one."""
    calls_in_order = sorted(range(len(calls)), key=lambda i: calls[i][2].tiles.start)
    layers, dys, shares = zip(*(calls[i] for i in calls_in_order), strict=True)
    walk, k = shares[0].walk, len(dys[0])
    if len(calls) * k < len(walk.x):
        return [_alone(layer, dy, share) for layer, dy, share in calls]
    dx, sums = layers[0].backward_with(_stacked(layers, k), np.concatenate(dys), walk)
    results: list[Any] = [None] * len(calls)
    for i, layer, share in zip(calls_in_order, layers, shares, strict=True):
        grads = layer.total({name: v[share.tiles] for name, v in sums.items()})
        results[i] = (None if dx is None else dx[share.tiles], grads)
    return results


def _alone(layer: Recurrent, dy: Array, share: Any) -> Any:
    params = {k: v[None] for k, v in layer.params.items()}
    dx, sums = layer.backward_with(params, dy, share.walk.part(share.tiles))
    return dx, layer.total(sums)
