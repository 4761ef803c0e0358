"""``python fitting.py``: the Python API as a script uses it, interrupted and going on.

It trains with a checkpoint in the current folder, prints ``begin`` before, ``done DIGEST`` after,
and after an interrupt ``interrupted``; then it goes on from the checkpoint. A notebook calls `fit`.
"""

import sys
from pathlib import Path

import numpy as np

from nnjit.layers import GRU, LSTM, RNN, Bptt, Codes, Dense, Flatten, Signal
from nnjit.model import Sequential
from nnjit.storage.files import weights_digest
from nnjit.training.checkpoint import Checkpoint
from nnjit.training.optimizers import Adam
from nnjit.training.trainer import Trainer

# name -> recurrent layer, back-propagation, whether on codes, steps
CASES = {
    "rnn_1": (lambda: RNN(1, return_sequences=True), Bptt(), True, 3000),
    "gru_8": (lambda: GRU(8), Bptt(128), False, 1000),
    "gru_after_64": (lambda: GRU(64, reset_after=True), Bptt(), True, 150),
    "gru_64": (lambda: GRU(64, return_sequences=True), Bptt(), True, 150),
    "lstm_96": (lambda: LSTM(96), Bptt(128, truncate=100), False, 150),
}
EPOCHS, CLIPS, BATCH = 6, 80, 16


def fit(case, threads, path=Path("checkpoint.pkl")):
    """Train to the end, from the checkpoint if there is one; return the digest of the weights."""
    layer, bptt, codes, T = CASES[case]
    rng = np.random.default_rng(5)
    x = rng.integers(0, 16, (CLIPS, T)) if codes else rng.standard_normal((CLIPS, T, 2))
    first = layer()
    layers = [first, *([Flatten()] if first.return_sequences else []), Dense(2, "softmax")]
    model = Sequential(layers).build(Codes(T, 16) if codes else Signal(T, 2), 3)
    data = {"train": (x, rng.integers(0, 2, CLIPS)), "val": (x[:40], rng.integers(0, 2, 40))}
    trainer = Trainer(Adam(0.01), epochs=EPOCHS, batch_size=BATCH, threads=threads, bptt=bptt)
    state = Checkpoint.read(path)[0] if path.exists() else None
    trainer.fit(model, data, [Checkpoint(path, every=0.2)], resume=state)
    return weights_digest(model)


def main():
    case, threads = sys.argv[1], int(sys.argv[2])
    while True:
        try:
            print("begin", flush=True)
            print("done", fit(case, threads), flush=True)
            return
        except KeyboardInterrupt:
            print("interrupted", flush=True)


if __name__ == "__main__":
    main()
