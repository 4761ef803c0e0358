import re
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nnjit.config import build as composition
from nnjit.config.build import CONF
from nnjit.datasets import LabelledData
from nnjit.errors import ConfigError, DataError, first_line
from nnjit.layers import Codes
from nnjit.model import Sequential
from nnjit.options import choose
from nnjit.tracking import Tracker
from nnjit.training.trainer import Trainer

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
CHOICES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((CONF / group).glob("*.yaml"))
    if not path.stem.startswith("_")
]


def build(cfg, place, kind=object):
    return composition.build(cfg, place, kind)


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def built(kind, **options):
    """Build one object from options, as ``thing``."""
    return build(OmegaConf.create({"thing": {"_target_": kind, **options}}), "thing")


@pytest.fixture
def two_classes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids="=".join)
def test_every_choice_composes_and_builds(group, choice, two_classes):
    overrides = [f"{group}={choice}"]
    if choice in ("folder", "arrays", "strings"):  # which read their root later
        overrides.append(f"dataset.root={two_classes}")
    cfg = composed(*overrides)
    cfg.n_classes = 2
    data = build(cfg, "dataset")
    model = build(cfg, "model").build(Codes(50, 16))
    trainer = build(cfg, "trainer")
    tracker = build(cfg, "tracking")
    kinds = [(data, LabelledData), (model, Sequential), (trainer, Trainer), (tracker, Tracker)]
    assert all(isinstance(thing, kind) for thing, kind in kinds)
    assert trainer.seed == cfg.seed
    first = trainer.optimizer.schedule.factor(0)
    assert trainer.optimizer.rate("dense", 0) == cfg.optimizer.learning_rate * first
    trainer.optimizer.check_layers(list(model.params))
    trainer.loss.check(model.activation)


def test_building_a_tracker_imports_no_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import would fail
    assert build(composed("tracking=mlflow"), "tracking").experiment == "nnjit"


@pytest.mark.parametrize(
    ("experiment", "layers", "epochs", "n_params"),
    [
        ("seed_ff", "flatten dense dropout dense_2", 10, 10_240_194),
        ("seed_rnn", "rnn flatten dense dropout dense_2", 5, 640_212),
        ("seed_gru", "gru flatten dense dropout dense_2", 3, 640_248),
    ],
)
def test_seed_recipes_are_those_of_the_notebook(experiment, layers, epochs, n_params):
    cfg = composed(f"experiment={experiment}")
    cfg.n_classes = 2
    data, trainer = build(cfg, "dataset"), build(cfg, "trainer")
    model = build(cfg, "model").build(Codes(data.encoding.n_steps, data.encoding.levels))
    assert [layer.name for layer in model.layers] == layers.split()
    assert model.n_params() == n_params
    assert (trainer.epochs, trainer.batch_size, trainer.seed) == (epochs, 16, 1)
    assert (trainer.loss.name, trainer.reduction) == ("mse", "sum")
    assert trainer.drop_last
    assert trainer.optimizer.rate("dense", epochs - 1) == 0.01
    clips = {layer: options["clip_norm"] for layer, options in trainer.optimizer.layers.items()}
    assert clips == ({"rnn": 0.25} if experiment == "seed_rnn" else {})
    assert (data.n_clips, data.split, data.sizes) == (256, "clip", (2, 1, 0))
    assert data.encoding.to_dict() == {
        "levels": 16,
        "method": "ceil",
        "rate": 10_000.0,
        "duration": 1.0,
        "resampler": "decimate",
    }


KEY = re.compile(r'^\s*(?:- )?"?(?P<key>\w+)"?:(?: (?P<value>.*))?$')


def keys_of(path):
    """Return each key that holds a value in a YAML file, and whether its line has a comment."""
    found = []
    for line in path.read_text().partition("\nhydra:")[0].splitlines():
        match = KEY.match(line.partition("#")[0].rstrip())
        if match and match["key"] not in ("_target_", "defaults") and match["value"]:
            found.append((match["key"], "# " in line or "${" in match["value"]))
    return found


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_key_has_a_comment(path):
    files = [path]
    if path.parent.name == "experiment":  # its keys are explained where they are at home
        files = sorted(CONF.rglob("*.yaml"))
    commented = {key for file in files for key, comment in keys_of(file) if comment}
    assert {key for key, _ in keys_of(path)} <= commented
    assert path.read_text().startswith("#")


def test_comments_are_looked_for_where_keys_are():
    assert len(keys_of(CONF / "dataset" / "_shared.yaml")) == 20
    assert ("seed", True) in keys_of(CONF / "config.yaml")


def test_unknown_option_lists_those_there_are():
    cfg = composed("+trainer.epoch=3")
    with pytest.raises(ConfigError, match=r"trainer.epoch does not exist: did you mean epochs\?"):
        build(cfg, "trainer")
    with pytest.raises(ConfigError, match=r"choose from n_tracks, data_seed, n_clips, duration"):
        build(composed("dataset=karplus", "+dataset.strings=6"), "dataset")
    cfg = composed("+model.layers.0.units=3")
    with pytest.raises(ConfigError, match=r"model.layers.0.units does not .*hidden_size"):
        build(cfg, "model")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epochs=many", "trainer.epochs='many' has the wrong type: it takes int"),
        ("trainer.epochs=2.5", "trainer.epochs=2.5 has the wrong type: it takes int"),
        ("trainer.epochs=true", "trainer.epochs=True has the wrong type: it takes int"),
        ("trainer.epochs=null", "trainer.epochs=None has the wrong type: it takes int"),
        ("trainer.drop_last=1", "it takes bool"),
        ("trainer.loss=3", "it takes str"),
        ("trainer.seed=x", "it takes int | None"),
        ("optimizer.learning_rate=fast", "it takes float"),
        ("optimizer.clip_norm=[1]", "it takes float | None"),
        ("trainer.optimizer=sgd", "it takes Optimizer"),
    ],
)
def test_wrong_type_tells_the_right_one(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(composed(override), "trainer")


@pytest.mark.parametrize(
    "override", ["optimizer.learning_rate=1", "trainer.seed=null", "optimizer.clip_norm=3"]
)
def test_types_that_fit(override):
    assert isinstance(build(composed(override), "trainer"), Trainer)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "numpy.zeros", "subprocess.run"])
@pytest.mark.parametrize("place", ["model._target_", "model.layers.0._target_"])
def test_foreign_targets_are_refused(place, target):
    root = target.split(".")[0]
    with pytest.raises(ConfigError, match=rf"{target} is not of nnjit: add trusted=\[{root}\]"):
        build(composed(f"{place}={target}"), "model")


def test_a_name_that_starts_like_nnjit_is_foreign():
    with pytest.raises(ConfigError, match="is not of nnjit"):
        built("nnjit_evil.Model")


def test_trusted_packages():
    cfg = OmegaConf.create({"thing": {"_target_": "textwrap.TextWrapper", "width": 3}})
    with pytest.raises(ConfigError, match=r"add trusted=\[textwrap\]"):
        build(cfg, "thing")
    cfg.trusted = ["textwrap"]
    assert build(cfg, "thing").width == 3


@pytest.mark.parametrize("target", ["nnjit.layers.Gru", "nnjit.nothing.Layer", "nnjit", "nnjit."])
def test_targets_that_do_not_exist(target):
    with pytest.raises(ConfigError, match="_target_"):
        built(target)


def test_errors_of_the_object_come_through():
    with pytest.raises(ConfigError, match=r"trainer\.epochs=0 must be"):
        build(composed("trainer.epochs=0"), "trainer")
    with pytest.raises(DataError, match=r"dataset\.root=/nowhere is no folder"):
        build(composed("dataset=folder", "dataset.root=/nowhere"), "dataset")


def test_a_value_that_has_to_be_given():
    with pytest.raises(ConfigError, match=r"dataset\.root has no value: add dataset\.root=VALUE"):
        build(composed("dataset=folder"), "dataset")


def test_an_interpolation_to_nowhere():
    with pytest.raises(ConfigError, match="nowhere"):
        build(composed("trainer.epochs=${nowhere}"), "trainer")


def test_options_that_are_passed_on_are_known():
    options = {"learning_rate": 0.1, "momentum": 0.5, "clip_norm": 1.0}
    assert built("nnjit.SGD", **options).clip_norm == 1.0


def test_choose():
    assert choose("gruu", ["rnn", "gru"]) == "did you mean gru? choose from rnn, gru"
    assert choose("x", ["rnn", "gru"]) == "choose from rnn, gru"


def test_first_line():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError()"


def test_conf_is_found():
    assert (composition.CONF / "config.yaml").is_file()


@pytest.mark.parametrize(
    "target",
    [
        "nnjit.config.build._check",
        "nnjit.runtime.threads.for_each",
        "nnjit.storage.files.read",
        "nnjit.Codes",
    ],
)
def test_functions_of_nnjit_are_no_parts(target):
    with pytest.raises(ConfigError, match="no part that a configuration can build"):
        build(composed(f"tracking._target_={target}"), "tracking")


def test_a_group_without_a_target():
    with pytest.raises(ConfigError, match="dataset names nothing to build"):
        build(composed("dataset=_shared"), "dataset")


def test_a_record_that_names_the_file_of_a_cell_runs_nothing(tmp_path):
    path = tmp_path / "evil.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    layer = {"_target_": "nnjit.layers.Recurrent", "cell": f"{path}:f", "hidden_size": 2}
    cfg = OmegaConf.create({"model": {"_target_": "nnjit.Sequential", "layers": [layer]}})
    with pytest.raises(ConfigError, match=r"model.layers.0.cell=.* names a file"):
        build(cfg, "model")
    assert not (tmp_path / "ran").exists()


def test_the_file_of_a_cell_is_named_as_it_is(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def f(x, h):\n    return 0.5 * h + x.z\n")
    layer = {"_target_": "nnjit.layers.Recurrent", "cell": f"{path}:f", "hidden_size": 2}
    cfg = OmegaConf.create({"name": ".py:f", "trusted": [], "model": {"layers": [layer]}})
    composition.settle_cells(cfg)
    assert "def f(x, h)" in cfg.model.layers[0].cell.equations
    layer["cell"] = f"{path.with_suffix('')}${{name}}"
    cfg = OmegaConf.create({"name": ".py:f", "trusted": [], "model": {"layers": [layer]}})
    with pytest.raises(ConfigError, match="write the name of the file"):
        composition.settle_cells(cfg)
