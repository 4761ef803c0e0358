import pytest

from nnjit.config.overrides import ordered
from nnjit.errors import ConfigError


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
