"""Any override that a person may type: taken, or told in one line. See `mutate`."""

import random

import mutate
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nnjit.config import build as composition
from nnjit.config import overrides
from nnjit.config.overrides import quoted
from nnjit.layers import Codes
from nnjit.reporting.messages import explain

TYPED = """1 -1 0 1.5 1e400 nan .inf true null x 'x' " ' [1,2] [] {} {a:1} [[[[]]]] 1,2 choice(1,2)
range(1,3) interval(0,1) glob(*) sort(3,1) str(1) int(x) ${seed} ${nothing} ${trainer} ${name}
${model.layers} ${oc.env:NOTHING} ${oc.env:HOME} \\${seed} ${ ${} $ ??? ${now:%Y} nnjit.SGD ff
nnjit.Sequential nnjit.layers.GRU nnjit.layers os.mkdir nnjit.run.main gru karplus folder adam
none default ../model/gru /etc/passwd _shared relu softmax zeros float64 val/loss test/f1 / ~
0x10 1_000 a=b = @ : ä♯"""
VALUES = (
    *TYPED.split(),
    *("", "a b", "{_target_: x}", "[{_target_: x}]", "{a: {b: [c]}}", "\x1b[2J", "\0", "\n"),
    *("${oc.create:{_target_: os.mkdir}}", "9" * 30, "-" + "9" * 30, "x" * 5000, "[" * 500),
)
MORE = """dataset model optimizer schedule trainer tracking experiment search hydra.run.dir hydra
hydra.sweep hydra.job.name trusted nothing a.b"""


@pytest.fixture(scope="module")
def keys():
    """Return every key of the composed configurations, and some that do not exist."""
    found = set(MORE.split())
    with initialize_config_dir(str(composition.CONF), version_base="1.3"):
        for choice in ("gru", "ff"):
            walk("", compose("config", [f"model={choice}"]), found)
    return sorted(found)


def walk(place, node, found):
    if OmegaConf.is_config(node):
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            found.add(f"{place}.{key}".strip("."))
            inner = OmegaConf.select(node, str(key), throw_on_resolution_failure=False)
            walk(f"{place}.{key}".strip("."), inner, found)


def override(rng, keys):
    """Return what a person, or a slip of the keyboard, may put on a command line."""
    key, value = rng.choice(keys), rng.choice(VALUES)
    if rng.random() < 0.3:  # likely ones
        return rng.choice(("seed=2", "name=x", "trainer.epochs=3", "model=rnn", f"~{key}"))
    if rng.random() < 0.2:
        key = f"{key}.{rng.choice([*keys, '_target_', '0', '-1', 'x y'])}"
    if rng.random() < 0.1:
        key = f"{key}@{rng.choice(keys)}"
    text = f"{rng.choice(['', '', '', '+', '++', '~'])}{key}"
    if rng.random() < 0.95:
        text += f"={value}"
    if rng.random() < 0.1:
        text = mutate.changed(rng, text.encode()).decode(errors="replace")
    return text


def tried(given):
    """Return what a command with such overrides tells, empty where they are taken."""
    try:
        with initialize_config_dir(str(composition.CONF), version_base="1.3"):
            cfg = compose("config", quoted(given))
    except Exception as error:  # what Hydra raises below nnjit.run.main is told like this
        return explain(error) or overrides._blame(error, given)
    try:
        for place in ("trainer", "tracking", "dataset"):
            composition.build(cfg, place, cfg.trusted)
        cfg.n_classes = 2
        model = composition.build(cfg, "model", cfg.trusted)
        model._connected(Codes(50, 16))  # nothing is allocated
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        return told
    return ""


def test_overrides(keys):
    taken = 0
    for seed in mutate.cases(40):
        rng = random.Random(seed)
        given = [override(rng, keys) for _ in range(rng.choice([1, 1, 2, 3]))]
        with mutate.limited(seed):
            told = tried(given)
            assert told is not None, given
            taken += not told
    assert taken > 0
