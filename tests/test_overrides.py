import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nnjit.config.build import CONF
from nnjit.config.overrides import literal, ordered, quoted, unquoted
from nnjit.errors import ConfigError
from nnjit.storage.records import SweepManifest
from nnjit.sweeps import sweep
from nnjit.sweeps.search.sweeper import _distribution

drawn = settings(deadline=None, max_examples=60, derandomize=True)
# What a shell, Hydra, OmegaConf and YAML give a meaning to, and letters that Hydra does not know.
ODD = "abß♯ \t'\"\\,=:;~!?#&|()[]{}<>$*%@+-/.09eE_"
texts = st.text(st.sampled_from(ODD), max_size=12) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
folders = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=9
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=1", "-m", "b=2"], ["-m", "a=1", "b=2"]),
        (["a=1", "--config-dir", "x", "b=2"], ["--config-dir", "x", "a=1", "b=2"]),
        (["a=1", "--config-dir=x", "b=2"], ["--config-dir=x", "a=1", "b=2"]),
        (["a=1", "-cd", "x", "--multirun"], ["-cd", "x", "--multirun", "a=1"]),
        (["a=1", "--multi", "b=2"], ["--multi", "a=1", "b=2"]),
        (["a=1", "--info", "config", "b=2"], ["--info", "config", "a=1", "b=2"]),
        (["a=1", "-i", "b=2"], ["-i", "a=1", "b=2"]),
        (["a=-1", "~b"], ["a=-1", "~b"]),
    ],
)
def test_flags_come_first(given, expected):
    assert ordered(given) == expected


@pytest.mark.parametrize("given", [["--model"], ["a=1", "--model=x"], ["-x"], ["--"], ["--cfg"]])
def test_flags_that_do_not_exist_or_lack_a_value(given):
    with pytest.raises(ConfigError, match=r"is no flag|has no value"):
        ordered(given)


def parsed(argument):
    """Return what Hydra reads; HydraException where it cannot."""
    return OverridesParser.create().parse_override(argument)


@drawn
@given(texts)
@example("C:\\Ärger\\x")
@example('"ß\\')
@example("\\ß\\\\'")
def test_what_hydra_does_not_read_arrives_as_it_was_typed(text):
    (argument,) = quoted([f"name={text}"])
    try:
        assert parsed(f"name={text}")
        assert argument == f"name={text}"
    except HydraException:
        assert parsed(argument).value() == text
    assert quoted([argument]) == [argument]


@drawn
@given(texts)
@example("a, b")
@example("1e5 ")
def test_a_literal_is_the_text_whatever_it_looks_like(text):
    assert parsed(literal("name", text)).value() == text
    assert unquoted(literal("name", text)) == text


@settings(drawn, max_examples=10)
@given(st.lists(texts.filter(lambda text: "${" not in text), min_size=1, max_size=5))
def test_printed_commands_are_read_again(values):
    """From the person's words to the configuration, and again from the command that is printed."""
    typed = quoted([f"+v{i}={value}" for i, value in enumerate(values)])
    typed = [t for t in typed if not parsed(t).is_sweep_override()]
    line = shlex.join(typed)
    assert shlex.split(line) == typed
    if shell := shutil.which("sh"):
        command = f"for word in {line}; do printf '%s\\0' \"$word\"; done"
        out = subprocess.run([shell, "-c", command], capture_output=True, check=True).stdout
        assert out.decode().split("\0")[:-1] == typed
    with initialize_config_dir(str(CONF), version_base="1.3"):
        first = compose("config", ordered(typed))
        again = compose("config", quoted(ordered(shlex.split(line))))
    assert OmegaConf.to_container(first) == OmegaConf.to_container(again)
    for argument in typed:
        key = argument.partition("=")[0]
        assert first[key.lstrip("+")] == parsed(argument).value()


@drawn
@given(st.lists(texts, min_size=2, max_size=3, unique=True))
def test_jobs_and_trials_are_given_what_was_typed(values):
    listed = ",".join(QuotedString(value, Quote.single).with_quotes() for value in values)
    for job, value in zip(parsed(f"name={listed}").sweep_string_iterator(), values, strict=True):
        assert quoted([f"name={job}"]) == [f"name={job}"]
        assert parsed(f"name={job}").value() == value
    trials = _distribution(parsed(f"name=choice({listed})")).choices
    assert [parsed(f"name={trial}").value() for trial in trials] == values


@drawn
@given(folders)
@example("ä")
@example("a, b")
@example("~x='\"\\")
@example("1e5 ")
def test_a_sweep_is_found_again_by_the_line_that_it_prints(name):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, f"0{name}").resolve()
        folder.mkdir()
        SweepManifest(place, ["-m", "seed=1,2"], [], ["seed"], 2, None).write(folder)
        line = shlex.join(["-m", f"resume={folder}"])
        with pytest.MonkeyPatch.context() as here:
            here.chdir(place)
            here.setattr(sweep, "_resumed", None)
            arguments = sweep.resumed(quoted(ordered(shlex.split(line))))
        found = {a.partition("=")[0]: a for a in arguments}
        assert unquoted(found["hydra.sweep.dir"]) == str(folder)
        assert "seed=1,2" in arguments
