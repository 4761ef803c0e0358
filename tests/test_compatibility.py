"""Files and names of version 0.1 that people hold must keep working."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_object

from nnjit import Classifier
from nnjit.config import former
from nnjit.errors import ConfigError
from nnjit.storage.files import weights_digest

MODEL = Path(__file__).parent / "data" / "model_0.1.pkl"
# Every `_target_` that a store or a user's file of 0.1 may name.
TARGETS = (
    "nnjit.SGD",
    "nnjit.Adam",
    "nnjit.Sequential",
    "nnjit.Trainer",
    "nnjit.datasets.AuthorMusic",
    "nnjit.datasets.Folder",
    "nnjit.datasets.Guitar",
    "nnjit.datasets.Karplus",
    "nnjit.layers.Bptt",
    "nnjit.layers.Dense",
    "nnjit.layers.Dropout",
    "nnjit.layers.Flatten",
    "nnjit.layers.GRU",
    "nnjit.layers.LSTM",
    "nnjit.layers.RNN",
    "nnjit.optimizers.Adam",
    "nnjit.optimizers.SGD",
    "nnjit.schedules.Exponential",
    "nnjit.schedules.Linear",
    "nnjit.schedules.Steady",
    "nnjit.tracking.MlflowTracker",
    "nnjit.tracking.NoTracker",
    "nnjit.sweeps.sweep.SweepCallback",
)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_version_0_1_still_exists(target):
    assert isinstance(get_object(target), type)


def test_a_model_file_of_version_0_1_gives_the_same_answers():
    classifier = Classifier.load(MODEL)
    assert weights_digest(classifier.model) == "f4464571c003403d"
    assert list(classifier.classes) == ["nylon", "steel"]
    codes = np.arange(3 * 200).reshape(3, 200) * 7 % 16
    expected = [[0.46123144, 0.5387685], [0.47578356, 0.5242165], [0.46123144, 0.5387685]]
    np.testing.assert_allclose(classifier.predict(codes).probabilities, expected, atol=2e-6)


def test_the_loader_that_old_models_name_in_mlflow_reads_them():
    from nnjit import pyfunc

    loaded = pyfunc._load_pyfunc(str(MODEL))
    assert loaded is not None


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("trainer.keep_remainder=true", "trainer.drop_last=false"),
        ("++trainer.keep_remainder=True,False", "++trainer.drop_last=False,True"),
        ("hydra.sweeper.params.trainer.patience=1", "callbacks.early_stopping.patience=1"),
        ("schedule=linear,exponential,steady", "schedule=inverse_time,exponential,constant"),
    ],
)
def test_an_option_of_version_0_1_leads_to_that_of_today(then, now):
    assert former.override(then).endswith(now)
    with pytest.raises(ConfigError) as caught:
        former.refuse(["-m", "model=gru", then])
    assert f"{then} has another name now: use {former.override(then)}" in str(caught.value)


@pytest.mark.parametrize(
    "argument", ["trainer.epochs=2", "-m", "schedule.decay=0.1", "name=steady", "~callbacks", "="]
)
def test_an_option_of_today_stays(argument):
    assert former.override(argument) == argument
    former.refuse([argument])


def test_a_recorded_configuration_of_version_0_1_has_the_names_of_today():
    config = {"trainer": {"keep_remainder": True, "patience": 2}, "seed": 1}
    now = former.upgraded(config)
    assert now["trainer"] == {"drop_last": False}
    assert now["callbacks"]["early_stopping"]["patience"] == 2
    assert config["trainer"] == {"keep_remainder": True, "patience": 2}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("callbacks", "Callback"),
        ("losses", "get"),
        ("metrics", "wilson_interval"),
        ("optimizers", "Optimizer"),
        ("schedules", "Schedule"),
    ],
)
def test_programs_of_version_0_1_import_from_the_same_modules(module, name):
    assert hasattr(importlib.import_module(f"nnjit.{module}"), name)
