"""Model files and checkpoints: read right, or refused by their own error; see `mutate`."""

import contextlib
import pickle
import pickletools
import random

import mutate
import numpy as np
import pytest
import toy

from nnjit.classifier import Classifier
from nnjit.commands.resume import _config
from nnjit.errors import CheckpointError, ModelFileError, NnjitError
from nnjit.layers import GRU, Dense, Dropout, Flatten
from nnjit.model import Sequential
from nnjit.storage import files as persistence
from nnjit.training.callbacks import Callback
from nnjit.training.checkpoint import FORMAT, Checkpoint
from nnjit.training.optimizers import Adam
from nnjit.training.run import RunInfo
from nnjit.training.trainer import Trainer

SPARE = 64_000_000
OPCODES = bytes(ord(o.code) for o in pickletools.opcodes)
CONFIG = {
    "dataset": {"_target_": "nnjit.datasets.Karplus"},
    "model": {"_target_": "nnjit.Sequential", "layers": []},
    "trainer": {"_target_": "nnjit.Trainer", "threads": 1},
    "tracking": {"_target_": "nnjit.tracking.MlflowTracker", "root": "runs", "uri": None},
    "seed": 3,
    "trusted": [],
}
ABOUT = {
    "name": "a run",
    "config": CONFIG,
    "overrides": ["seed=3"],
    "tags": {"nnjit.dataset_digest": "0"},
    "description": "",
}


def trainer():
    options = {"epochs": 3, "threads": 1, "seed": 3, "restore_best": True, "monitor": "val/loss"}
    return Trainer(Adam(0.05), **options)


def network():
    layers = [GRU(2, return_sequences=True), Flatten(), Dense(3, "elu"), Dropout(0.5)]
    return Sequential([*layers, Dense(2, "softmax")])


class Stop(Callback):
    def on_batch_end(self, progress):
        if progress.epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the bytes of a model file and of a checkpoint, and their documents."""
    place, model = tmp_path_factory.mktemp("sound"), network()
    checkpoint = Checkpoint(place / "c.pkl", 1e9, ABOUT)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(model, toy.data(), [Stop(), checkpoint])
    Classifier.of(model, toy.data()).save(place / "m.pkl")
    return {name: (place / f"{name}.pkl").read_bytes() for name in "mc"}


def altered(rng, content, keys):
    """Return a file with other values and a digest that fits them, or other bytes or opcodes."""
    kind = rng.randrange(8)
    if kind == 0:
        return mutate.changed(rng, content)
    if kind == 1:
        changed = bytearray(content)
        changed[rng.randrange(2, len(changed))] = rng.choice(OPCODES)
        return bytes(changed)
    document = pickle.loads(content)
    if kind == 2:
        document = mutate.mutated(rng, document, bytes_too=True, bombs=True)
    else:
        inside = {key: document[key] for key in keys}
        document |= mutate.mutated(rng, inside, bytes_too=True)
        with contextlib.suppress(TypeError, ValueError):  # what the digest does not take
            document["digest"] = persistence._digest({key: document[key] for key in keys})
    with contextlib.suppress(RecursionError):
        content = pickle.dumps(document, protocol=5)
    return content


def test_model_files(sound, tmp_path):
    path, codes, read = tmp_path / "m.pkl", toy.clips(3).codes, 0
    for seed in mutate.cases(60):
        path.write_bytes(altered(random.Random(seed), sound["m"], persistence.MODEL.keys))

        def most():
            return 4 * path.stat().st_size + SPARE

        with mutate.limited(seed, most):
            try:
                classifier = Classifier.load(path)
            except ModelFileError as error:
                mutate.one_line(error)
                continue
            if classifier.model.inputs.n_steps == codes.shape[1]:
                with np.errstate(all="ignore"):
                    assert len(classifier.predict(codes % 2).predictions) == 3
                read += 1
    assert read > 0


def test_checkpoints(sound, tmp_path):
    path, data, read = tmp_path / "c.pkl", toy.data(), 0
    for seed in mutate.cases(60):
        path.write_bytes(altered(random.Random(seed), sound["c"], FORMAT.keys))

        def most():
            return 4 * path.stat().st_size + SPARE

        with mutate.limited(seed, most):
            try:
                state, about = Checkpoint.read(path)
                info = RunInfo.from_plain(about, path)
            except CheckpointError as error:
                mutate.one_line(error)
                continue
            try:
                cfg = _config(info, {"resume": "latest"})
                assert cfg.tracking.get("uri") is None
                assert cfg.trusted == []
            except NnjitError as error:
                mutate.one_line(error)
        with mutate.limited(seed):
            try:
                trainer().fit(network(), data, resume=state)
                read += 1
            except NnjitError as error:
                mutate.one_line(error)
    assert read > 0
