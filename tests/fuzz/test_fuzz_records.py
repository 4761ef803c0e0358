"""What a sweep and a run leave behind, damaged or forged: see `mutate`."""

import json
import random
from types import SimpleNamespace

import mutate
import pytest
import yaml

from nnjit.commands import reproduce
from nnjit.config.build import build
from nnjit.errors import ConfigError, NnjitError, TrackingError
from nnjit.reporting import terminal, variants
from nnjit.storage.records import FINISHED, JobRecord, SweepManifest, read_all
from nnjit.sweeps import sweep
from nnjit.tracking import Store
from nnjit.training import metrics

NAMES = ("train", "val", "test")
VALUES = {f"{w}/{s}_{m}": 0.5 for w in ("final", "best") for s in NAMES for m in metrics.compared()}
VALUES |= {f"final/{s}_loss": 0.1 for s in NAMES} | {f"baseline/{s}_accuracy": 0.5 for s in NAMES}
RECORD = {
    "number": 0,
    "overrides": ["model=ff", "seed=1"],
    "model": "model=ff",
    "status": FINISHED,
    "reason": "",
    "pid": 1,
    "seconds": 1.5,
    "monitor": "val/accuracy",
    "score": 0.5,
    "values": VALUES,
    "warnings": ["a"],
}
ARGUMENTS = [
    *(
        "-m",
        "model=ff",
        "seed=1,2",
        "trainer.epochs=3",
        "dataset.root=music",
        "hydra/launcher=joblib",
    ),
    *("hydra.launcher.n_jobs=2", "tracking=none", "+optimizer.layers.dense.clip_norm=1.0"),
]
CONFIG = {
    "dataset": {"_target_": "nnjit.datasets.Karplus", "n_clips": 8, "sizes": [2, 1, 1]},
    "model": {
        "_target_": "nnjit.Sequential",
        "dtype": "float32",
        "layers": [
            {"_target_": "nnjit.layers.GRU", "hidden_size": 1, "return_sequences": True},
            {"_target_": "nnjit.layers.Flatten"},
            {
                "_target_": "nnjit.layers.Dense",
                "units": 2,
                "activation": {"name": "softmax", "temperature": 1.0},
            },
        ],
    },
    "trainer": {
        "_target_": "nnjit.Trainer",
        "optimizer": {
            "_target_": "nnjit.Adam",
            "learning_rate": 0.1,
            "schedule": {"_target_": "nnjit.training.schedules.Exponential"},
            "layers": {"gru": {"clip_norm": 1.0}},
        },
        "bptt": {"_target_": "nnjit.layers.Bptt", "checkpoint": "auto"},
        "monitor": "val/accuracy",
        "seed": 1,
        "threads": 1,
    },
    "tracking": {"_target_": "nnjit.tracking.MlflowTracker", "root": "runs", "uri": None},
    "seed": 1,
    "name": None,
    "trusted": [],
}


def text(rng, plain):
    """Return JSON of other values, or other text."""
    if rng.random() < 0.2:
        return mutate.changed(rng, json.dumps(plain).encode())
    return json.dumps(mutate.mutated(rng, plain)).encode()


def test_records_of_jobs(tmp_path):
    path, out, read = tmp_path / "records" / "0.json", terminal.console(), 0
    path.parent.mkdir()
    plan = SweepManifest(".", [], [], ["model"], 1, None)
    for seed in mutate.cases(60):
        path.write_bytes(text(random.Random(seed), RECORD))
        with mutate.limited(seed):
            try:
                (record,) = read_all(tmp_path)
            except ConfigError as error:
                mutate.one_line(error)
                continue
            assert isinstance(JobRecord.read(tmp_path, 0), JobRecord)
            terminal.job_line(variants.label(record, plan.varied), record)
            found = variants.group([record])
            if found:
                with out.capture():
                    out.print(variants.table(found, out.width), variants.legend(found))
            variants.markdown(found)
            read += 1
    assert read > 0


def test_plans_of_sweeps(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_resumed", None)
    monkeypatch.chdir(tmp_path)
    plan = SweepManifest(
        str(tmp_path), ARGUMENTS, ARGUMENTS[1:], ["seed"], 2, [["seed=1"], ["seed=2"]], "p"
    )
    read = 0
    for seed in mutate.cases(60):
        (tmp_path / "sweep.json").write_bytes(text(random.Random(seed), vars(plan)))
        with mutate.limited(seed):
            try:
                found = sweep.resumed(["-m", f"resume={tmp_path}"])
            except ConfigError as error:
                mutate.one_line(error)
                continue
            assert not [a for a in found if a.startswith("-") and a not in ("-m", "--multirun")]
            assert not [a for a in found if "${o" in a or "callback" in a or ".." in a]
            read += 1
    assert read > 0


def stored(content):
    """Return a store whose runs have such a configuration."""

    def load(place):
        return content

    artifacts = SimpleNamespace(load_text=load)
    errors = SimpleNamespace(MlflowException=KeyError)
    return Store("", SimpleNamespace(artifacts=artifacts, exceptions=errors), None)


def test_recorded_configurations():
    read = 0
    for seed in mutate.cases(60):
        rng = random.Random(seed)
        changed = mutate.mutated(rng, CONFIG, bytes_too=True, bombs=rng.random() < 0.3)
        try:
            content = yaml.safe_dump(changed)
        except RecursionError:
            continue
        if rng.random() < 0.2:
            content = mutate.changed(rng, content.encode()).decode(errors="replace")
        with mutate.limited(seed, lambda: 200_000_000):
            try:
                cfg = reproduce.configuration(stored(content).config("id"), {})
                assert cfg.trusted == []
            except (TrackingError, ConfigError) as error:
                mutate.one_line(error)
                continue
            for place in ("trainer", "model", "dataset"):
                try:
                    build(cfg, place, cfg.trusted)
                    read += 1
                except NnjitError as error:
                    mutate.one_line(error, most=200_000)
    assert read > 0


@pytest.mark.parametrize("depth", [10, 100_000])
def test_a_configuration_of_brackets(depth):
    with pytest.raises(TrackingError, match="damaged"):
        stored("[" * depth).config("id")
