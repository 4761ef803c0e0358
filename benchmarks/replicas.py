"""``python -m benchmarks.replicas``: what R models in one pass cost against one, and one by one.

Each is the seed's GRU with a seed of its own, on the same clips; epochs end with an evaluation.
"""

import json
import time
from functools import partial
from pathlib import Path

import numpy as np

from nnjit import SGD, Sequential, Trainer
from nnjit.layers import GRU, Codes, Dense, Dropout, Flatten
from nnjit.replicas import meeting, train_together
from nnjit.threads import set_threads

from .task import BATCH, DROPOUT, LEVELS, N_STEPS, UNITS, clips

EPOCHS, ROUNDS, COUNTS = 20, 3, (1, 2, 4, 8, 16)
HERE = Path(__file__).parent


def train(seed: int, data: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Train one model, evaluation after each epoch included."""
    layers = [GRU(1, return_sequences=True), Flatten(), Dense(UNITS, "relu"), Dropout(DROPOUT)]
    model = Sequential([*layers, Dense(2, "softmax")])
    model.build(Codes(N_STEPS, LEVELS), np.random.default_rng(seed))
    trainer = Trainer(SGD(0.01), epochs=EPOCHS, batch_size=BATCH, seed=seed)
    with meeting(model) as more:
        trainer.fit(model, data, more)


def seconds(jobs: list[partial[None]], together: bool) -> float:
    began = time.perf_counter()
    if together:
        for result in train_together(jobs):
            if isinstance(result, BaseException):
                raise result
    else:
        for job in jobs:
            job()
    return (time.perf_counter() - began) / EPOCHS


def main() -> None:
    threads = set_threads()
    codes, labels = clips()
    data = {"train": (codes, labels)}
    rows = []
    seconds([partial(train, 0, data)], together=True)
    print(f"{threads} threads; milliseconds per epoch, best of {ROUNDS}")
    for n in COUNTS:
        jobs = [partial(train, seed, data) for seed in range(n)]
        best = {way: min(seconds(jobs, way) for _ in range(ROUNDS)) for way in (True, False)}
        rows.append({"replicas": n, "one_pass": best[True], "one_by_one": best[False]})
        print(
            f"{n:3} models  in one pass {best[True] * 1e3:7.1f}  one by one "
            f"{best[False] * 1e3:7.1f}  in one pass against one model "
            f"{best[True] / rows[0]['one_by_one']:5.2f}",
            flush=True,
        )
    (HERE / "replicas.json").write_text(json.dumps({"threads": threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
