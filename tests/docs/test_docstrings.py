"""The examples in docstrings print what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import nnjit

HOME = Path(nnjit.__file__).parent
MODULES = [
    ".".join(("nnjit", *path.relative_to(HOME).with_suffix("").parts))
    for path in sorted(HOME.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples():
    assert len(MODULES) >= 3


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
