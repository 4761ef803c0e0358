"""Attacks by whoever writes a store or a file: each would make a folder, or tell a secret."""

import copy
import hashlib
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from nnjit.commands import reproduce
from nnjit.commands.resume import _config
from nnjit.config import trust
from nnjit.config.build import build
from nnjit.datasets import Encoding, cache, segments
from nnjit.errors import CheckpointError, ConfigError, TrackingError
from nnjit.model import Sequential
from nnjit.storage.records import SweepManifest
from nnjit.sweeps import sweep
from nnjit.sweeps.search import sweeper as search
from nnjit.training.run import RunInfo
from nnjit.training.trainer import Trainer

RECORDED = {
    "dataset": {"_target_": "nnjit.datasets.Karplus", "n_clips": 8},
    "model": {
        "_target_": "nnjit.Sequential",
        "layers": [{"_target_": "nnjit.layers.Dense", "units": 2, "activation": "softmax"}],
    },
    "trainer": {"_target_": "nnjit.Trainer", "optimizer": {"_target_": "nnjit.SGD"}, "threads": 1},
    "tracking": {"_target_": "nnjit.tracking.MlflowTracker", "root": "runs", "uri": None},
    "seed": 1,
    "trusted": [],
}


@pytest.fixture
def target(tmp_path):
    """Return a folder that only an attack makes."""
    yield tmp_path / "made"
    assert not (tmp_path / "made").exists()


def call(target):
    """Return a call as Hydra builds it: its list of blocked targets does not have this one."""
    return {"_target_": "os.mkdir", "path": str(target)}


def hidden(target, escapes):
    """Return the call as an interpolation that is one only after so many resolutions."""
    text = f"${{oc.create:{{_target_:os.mkdir,path:{target}}}}}"
    for _ in range(escapes):
        text = text.replace("\\", "\\\\").replace("${", "\\${")
    return text


def with_activation(value):
    config = copy.deepcopy(RECORDED)
    config["model"]["layers"][0]["activation"] = value
    return config


@pytest.mark.parametrize("escapes", range(5))
def test_an_interpolation_is_never_built(escapes, target):
    cfg = OmegaConf.create(with_activation(hidden(target, escapes)))
    with pytest.raises(ConfigError, match=r"is not of nnjit|still an interpolation"):
        build(cfg, "model", Sequential)


def test_hydra_would_build_it(tmp_path):
    """The attack of the test above is real where nothing is checked."""
    for escapes in range(2):
        cfg = OmegaConf.create(with_activation(hidden(tmp_path / "made", escapes)))
        with pytest.raises(Exception, match="Dense"):
            instantiate(cfg.model)
        assert (tmp_path / "made").exists()
        shutil.rmtree(tmp_path / "made")


def test_an_interpolation_put_together_of_parts(target):
    config = with_activation("${begin}${end}")
    config["begin"], config["end"] = "$", hidden(target, 0)[1:]
    with pytest.raises(ConfigError, match="still an interpolation"):
        build(OmegaConf.create(config), "model", Sequential)


INTERPOLATIONS = [
    "${oc.env:HOME}",
    "\\${oc.env:HOME}",
    "${oc.decode:'[1]'}",
    "${oc.deprecated:seed}",
    "${oc.select:seed}",
    "${hydra:runtime.cwd}",
    "${now:%Y}",
    "${seed}",
    "text ${seed}",
]


@pytest.mark.parametrize("value", [*INTERPOLATIONS, *[hidden("/x", n) for n in range(4)]])
@pytest.mark.parametrize("place", ["name", "dataset.root", "model.layers.0.activation"])
def test_a_record_holds_no_interpolation(place, value):
    cfg = OmegaConf.create(RECORDED)
    plain = OmegaConf.to_container(cfg)
    node = plain
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in parents:
        node = node[key]
    node[last] = value
    with pytest.raises(TrackingError, match="still an interpolation"):
        reproduce.configuration(plain, {})
    with pytest.raises(CheckpointError, match="still an interpolation"):
        _config(info(plain), {"resume": "latest"})


def test_keys_are_looked_at_too():
    with pytest.raises(TrackingError, match="still an interpolation"):
        reproduce.configuration({**RECORDED, "${oc.env:HOME}": 1}, {})


def info(config):
    return RunInfo("", config, [], {"nnjit.dataset_digest": ""}, "", None)


@pytest.mark.parametrize("given", ["", "numpy", "[numpy]"])
def test_a_record_trusts_nobody(given, target):
    config = {**RECORDED, "model": call(target), "trusted": ["os"]}
    for configure, error in (
        (lambda c: reproduce.configuration(c, {"trusted": given}), TrackingError),
        (lambda c: _config(info(c), {"trusted": given}), CheckpointError),
    ):
        with pytest.raises(ConfigError, match=r"add trusted=\[os\] if you trust it"):
            configure(config)
        cfg = configure({**config, "trusted": []})
        with pytest.raises(ConfigError, match=r"os\.mkdir is not of nnjit"):
            build(cfg, "model", Sequential)
        with pytest.raises(error, match="trusted"):
            configure({**config, "trusted": "os"})


def test_the_command_line_does():
    cfg = _config(info({**RECORDED, "trusted": ["textwrap"]}), {"trusted": "[textwrap]"})
    assert cfg.trusted == ["textwrap"]


def test_a_record_names_no_store():
    """A server would be sent results, and secrets of the environment."""
    config = copy.deepcopy(RECORDED)
    config["tracking"] |= {"uri": "http://evil", "root": "/evil"}
    cfg = _config(info(config), {"resume": "latest"})
    assert (cfg.tracking.root, cfg.tracking.uri) == ("runs", None)
    cfg = _config(info(config), {"tracking.uri": "http://mine", "tracking.root": "here"})
    assert (cfg.tracking.root, cfg.tracking.uri) == ("here", "http://mine")


def bomb(depth):
    """Return YAML of a few bytes for billions of values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return yaml.safe_load("\n".join(lines))


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {**RECORDED, "x": bomb(12)},
        {**RECORDED, "x": {"a": b"bytes"}},
        {**RECORDED, "x": {1, 2}},
        {**RECORDED, "x": yaml.safe_load("2024-01-01")},
        {**RECORDED, "seed": "1"},
        {**RECORDED, "seed": None},
        {**RECORDED, "model": "nnjit.Sequential"},
        {**RECORDED, "trusted": "os"},
    ],
    ids=lambda value: str(type(value)),
)
def test_a_damaged_configuration(damaged):
    with pytest.raises(TrackingError):
        reproduce.configuration(damaged, {})


@pytest.mark.parametrize(
    "name",
    [
        "nnjit.config.build.instantiate",
        "nnjit.config.build.build",
        "nnjit.config.trust.os.mkdir",
        "nnjit.config.trust.os",
        "nnjit.storage.files.pickle.loads",
        "nnjit.sweeps.sweep.SweepCallback",
        "nnjit.sweeps.launchers.processes.JoblibLauncher",
        "nnjit.training.checkpoint.Checkpoint",
        "nnjit.model.np.load",
        "nnjit",
        "nnjit.",
        ".nnjit.SGD",
        "os.mkdir",
        "",
        3,
        None,
        ["nnjit.SGD"],
    ],
)
def test_only_parts_are_built(name, target):
    config = {"model": {**call(target), "_target_": name}}
    with pytest.raises(ConfigError, match=r"^model"):
        build(OmegaConf.create(config), "model", Sequential)


def test_a_part_stands_in_its_place():
    with pytest.raises(ConfigError, match="is no Trainer"):
        build(OmegaConf.create({"trainer": RECORDED["model"]}), "trainer", Trainer)
    config = {"trainer": {**RECORDED["trainer"], "optimizer": RECORDED["model"]["layers"][0]}}
    with pytest.raises(ConfigError, match="has the wrong type: it takes Optimizer"):
        build(OmegaConf.create(config), "trainer", Trainer)


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_how_a_part_is_called_is_fixed(key):
    config = {"model": {**RECORDED["model"], key: True}}
    with pytest.raises(ConfigError, match=f"model.{key} does not go with nnjit.Sequential"):
        build(OmegaConf.create(config), "model", Sequential)


def test_files_of_a_store_lie_in_its_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "runs"]
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "evil").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "evil")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs" / "loop")
    inside = tmp_path / "runs" / "a" / "checkpoint.pkl"
    assert trust.within(inside, folders, "resume") == inside
    assert trust.within(tmp_path / "runs" / "b" / ".." / "a", folders, "resume") == inside.parent
    for path in ("evil", "runs/../evil", "runs/link/c.pkl", "runs2", "", "/", "a\0b", "x" * 5000):
        with pytest.raises(TrackingError, match="if you trust what is there, give resume="):
            trust.within(tmp_path / path, folders, "resume")


HARMLESS = [
    "-m",
    "--multirun",
    "model=ff,rnn,gru",
    "model=choice(ff,rnn)",
    "seed=1,2,3",
    "seed=range(1,9)",
    "+experiment=seed_gru",
    "name='a b'",
    "~schedule",
    "trainer.epochs=3",
    "++trainer.epochs=3",
    "model.layers.0.hidden_size=1,2",
    "model.layers.0._target_=nnjit.layers.GRU,nnjit.layers.LSTM",
    "model.layers.2.units=${model.layers.0.hidden_size}",
    "+optimizer.layers.gru.clip_norm=0.25",
    "dataset=folder",
    "dataset.root=/music/of mine",
    "dataset.sizes=[2,1,0]",
    "tracking=none",
    "tracking.experiment=x",
    "hydra/launcher=joblib",
    "hydra.launcher.n_jobs=2",
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=9",
    "hydra.sweep.dir=/here/runs/sweeps/x",
    "search=gru",
    "+hydra.sweeper.params.model.layers.0.units=choice(1,2)",
]


def test_a_recorded_command_line_is_given_again():
    assert trust.recorded_arguments(HARMLESS, []) == HARMLESS


CALL = "{_target_: os.mkdir, path: made}"
HOSTILE = [
    "model.layers.0.cell=evil.py:f",
    "model.layers=[{_target_: nnjit.layers.Recurrent, cell: 'evil.py:f', hidden_size: 1}]",
    "hydra.sweeper.params.model.layers.0.cell=gru,evil.py:f",
    f"+hydra.callbacks.x={CALL}",
    f"hydra.callbacks.sweep={CALL}",
    f"++hydra.callbacks={{x: {CALL}}}",
    "hydra.job_logging={handlers: {x: {(): os.mkdir}}}",
    "hydra/job_logging=evil",
    "+hydra.hydra_logging.handlers.x.class=evil.Handler",
    "hydra/hydra_logging=evil",
    "hydra.searchpath=[file:///evil]",
    "hydra.job.env_set.PYTHONPATH=/evil",
    "+hydra.job.env_set={LD_PRELOAD: /evil.so}",
    "hydra.job.env_copy=[AWS_SECRET_ACCESS_KEY]",
    "hydra.job.chdir=true",
    "hydra.run.dir=/home",
    "hydra.sweep.subdir=../../..",
    "hydra.launcher._target_=os.mkdir",
    "hydra/launcher=evil",
    "hydra/launcher=../../evil",
    "hydra/launcher@hydra.callbacks.x=evil",
    "hydra.launcher.folder=/evil",
    "hydra.launcher.address=ray://evil:10001",
    "hydra.launcher.options.slurm_setup=[sh evil]",
    "hydra.launcher.options.slurm_python=/evil",
    f"hydra.launcher.n_jobs={CALL}",
    "hydra.launcher.n_jobs=${oc.env:HOME}",
    "hydra.launcher.n_jobs=\\${oc.env:HOME}",
    "hydra.sweeper._target_=os.mkdir",
    "hydra/sweeper=evil",
    "hydra.sweeper.storage=postgresql://evil/x",
    f"hydra.sweeper.params={{+hydra.callbacks.x: {CALL}}}",
    "+hydra.sweeper.params.hydra.job.env_set.PYTHONPATH=/evil",
    "+hydra.sweeper.params.hydra/launcher=evil",
    "hydra.verbose=true",
    "hydra=evil",
    "hydra",
    "--config-dir",
    "--config-dir=/evil",
    "-cd",
    "-cd/evil",
    "--config-path=/evil",
    "-cp=/evil",
    "--config-name=evil",
    "-cn",
    "--package=hydra",
    "-p",
    "--experimental-rerun=/evil.pickle",
    "--run",
    "--cfg=all",
    "--info",
    "/evil",
    "",
    "trusted=[os]",
    "+trusted=[os]",
    "model=/tmp/evil",
    "model=../../evil",
    "model=ff,../evil",
    "model={_target_: os.mkdir}",
    "model@hydra.callbacks.x=evil",
    "model@_global_=evil",
    "+experiment=pkg://evil",
    "+experiment=file:///evil",
    "evil=1",
    "+_target_=os.mkdir",
    "name=${oc.env:AWS_SECRET_ACCESS_KEY}",
    "name=\\${oc.env:HOME}",
    "name=$",
    "name=${${a}:HOME}",
    "dataset.root=${oc.create:{a: 1}}",
    "tracking.uri=http://evil",
    "tracking.root=/evil",
    "+tracking.artifacts=s3://evil",
]


@pytest.mark.parametrize("argument", HOSTILE)
def test_a_recorded_command_line_starts_nothing(argument, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_resumed", None)
    monkeypatch.chdir(tmp_path)
    recorded = ["-m", "seed=1,2", argument]
    SweepManifest(
        str(tmp_path), recorded, ["seed=1,2"], ["seed"], 2, [["seed=1"], ["seed=2"]]
    ).write(tmp_path)
    with pytest.raises(ConfigError, match="is not taken from a file"):
        sweep.resumed(["-m", f"resume={tmp_path}"])


def test_what_is_given_goes_before_what_is_recorded():
    uri = "tracking.uri=${oc.env:STORE}"
    given = [uri, "--config-dir", "conf", "trusted=[mine]"]
    recorded = ["-m", "--config-dir", "conf", "model=ff", uri, "trusted=[mine]"]
    assert trust.recorded_arguments(recorded, given) == recorded
    recorded = ["-m", "trusted=[evil]", "tracking.uri=http://evil", "model=ff"]
    assert trust.recorded_arguments(recorded, given) == ["-m", "model=ff"]
    for evil in ("--config-dir=/evil", "/evil", "++trusted=[evil]", "+tracking.uri=http://evil"):
        with pytest.raises(ConfigError, match="is not taken from a file"):
            trust.recorded_arguments(["-m", "--config-dir", evil], given)


def searching(**params):
    """Return a search whose study tried these values."""
    space = {
        key: OverridesParser.create().parse_override(text)
        for key, text in (("name", "name=choice(a,b)"), ("x", "x=interval(0,1)"))
    }
    found = SimpleNamespace(
        _distributions=lambda: {key: search._distribution(o) for key, o in space.items()},
        _settings=SimpleNamespace(name="study"),
    )
    return search.SearchSweeper._check_params(found, SimpleNamespace(number=3, params=params))


@pytest.mark.parametrize(
    "params",
    [{"name": "${oc.env:HOME}"}, {"x": "1"}, {"x": 2.0}, {"x": float("nan")}, {"+hydra.x": "a"}],
    ids=str,
)
def test_a_study_chooses_among_what_the_search_may_try(params):
    pytest.importorskip("optuna")
    searching(name="b", x=0.5)
    with pytest.raises(ConfigError, match="trial 3 of the study study tried"):
        searching(**params)


@pytest.mark.parametrize("recipe", ["", "[]", "{", '{"a": 1}', "3", "[" * 100_000, 5, None])
def test_a_damaged_recipe_of_a_study(recipe):
    damaged = SimpleNamespace(user_attrs={"recipe": recipe})
    with pytest.raises(ConfigError, match="the study is damaged"):
        search._recorded_recipe(damaged)


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_cached_clips_hold_no_pickles(target, tmp_path):
    import soundfile

    path, folder = tmp_path / "a.wav", tmp_path / "cache"
    soundfile.write(path, np.sin(np.arange(24_000)), 8000)
    (first,) = cache.prepare([path], Encoding(), folder)
    expected = np.array(first.codes)
    evil = np.array([Evil(target)], object)
    (file,) = folder.rglob("*.clips")
    (entry,) = segments.Segment(file).entries
    data = pickle.dumps(evil).ljust(entry.size)
    forged = entry._replace(at=64, shape=(1,), dtype="|O", digest=hashlib.sha256(data).hexdigest())
    for content in (data, bytes(64) + data + segments.seal([forged])):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match="are damaged"):
            (found,) = cache.prepare([path], Encoding(), folder)
        assert (found.codes == expected).all()
