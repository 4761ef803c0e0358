"""A model begins with the weights of another."""

import numpy as np
import pytest
import toy
from omegaconf import OmegaConf

from nnjit.classifier import Classifier
from nnjit.commands.initial import initial_model
from nnjit.errors import ConfigError, ModelFileError
from nnjit.layers import Codes, Dense, Flatten
from nnjit.model import Sequential
from nnjit.training.transfer import take_over


def built(n_classes=2, seed=0):
    return toy.model(n_classes).build(toy.ENCODING.inputs, seed)


def test_all_weights_are_taken():
    model, source = built(seed=1), built(seed=2)
    assert take_over(model, source) == []
    for name, w in toy.weights(source).items():
        np.testing.assert_array_equal(toy.weights(model)[name], w)
    model.params["dense"]["W"][...] = 0
    assert (source.params["dense"]["W"] != 0).all()  # copies


def test_layers_of_another_shape_begin_anew():
    model, source = built(3, seed=1), built(2, seed=2)
    before = toy.weights(model)
    assert take_over(model, source) == ["dense_2"]
    np.testing.assert_array_equal(model.params["dense"]["W"], source.params["dense"]["W"])
    np.testing.assert_array_equal(model.params["dense_2"]["W"], before["dense_2.W"])


def test_another_model_is_refused():
    source = Sequential([Flatten(), Dense(3, "softmax")]).build(Codes(7, 5))
    with pytest.raises(
        ConfigError, match=r"it has dense \(W \[35, 3\], b \[3\]\), the model dense"
    ):
        take_over(built(), source)


def config(path):
    return OmegaConf.create({"init_from": path, "tracking": {}})


def test_a_file_or_a_folder_is_named_for_good(tmp_path, monkeypatch):
    source = built(seed=2)
    Classifier.of(source, toy.data()).save(tmp_path / "model.pkl")
    monkeypatch.chdir(tmp_path)
    for given in ("model.pkl", ".", str(tmp_path)):
        cfg = config(given)
        found = initial_model(cfg)
        assert cfg.init_from == str(tmp_path / "model.pkl")
        np.testing.assert_array_equal(found.params["dense"]["W"], source.params["dense"]["W"])
    assert initial_model(config(None)) is None
    assert initial_model(OmegaConf.create({})) is None  # a run of an earlier version


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"init_from=a/b does not exist: give a model file"):
        initial_model(config("a/b"))
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ModelFileError):
        initial_model(config(str(tmp_path)))
