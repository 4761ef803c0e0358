"""Maps option names of earlier versions, in recorded configurations and commands, to new names."""

import re
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError

# Options by their full key. The meaning of those in _INVERTED is reversed.
OPTIONS = {
    "trainer.patience": "callbacks.early_stopping.patience",
    "trainer.keep_remainder": "trainer.drop_last",
}
_INVERTED = ("trainer.keep_remainder",)
CHOICES = {"schedule": {"steady": "constant", "linear": "inverse_time"}}
_OVERRIDE = re.compile(r"([+~]*(?:hydra\.sweeper\.params\.)?)([^=]*)(.*)", re.DOTALL)
_OPPOSITE = {"true": "false", "false": "true", "True": "False", "False": "True"}


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the current names."""
    config = {k: dict(v) if isinstance(v, dict) else v for k, v in config.items()}
    trainer = config["trainer"]
    if "patience" in trainer:
        stopping = {"_target_": "nnjit.EarlyStopping", "patience": trainer.pop("patience")}
        config["callbacks"] = {**(config.get("callbacks") or {}), "early_stopping": stopping}
    if "keep_remainder" in trainer:
        trainer["drop_last"] = not trainer.pop("keep_remainder")
    return config


def override(argument: str) -> str:
    """Return an override of a command line with the current names."""
    match = _OVERRIDE.fullmatch(argument)
    assert match  # the pattern takes any text
    mark, key, value = match.groups()
    if key in _INVERTED:
        value = re.sub(r"\w+", lambda m: _OPPOSITE.get(m[0], m[0]), value)
    if choices := CHOICES.get(key):
        value = re.sub(r"\w+", lambda m: choices.get(m[0], m[0]), value)
    return f"{mark}{OPTIONS.get(key, key)}{value}"


def refuse(arguments: Sequence[str]) -> None:
    """Raise ConfigError, with the current name, for an override of an earlier version."""
    for argument in arguments:
        key, _, number = argument.partition("=")
        if key.lstrip("+") == "trainer.replicas":
            n = int(number) if number.isdecimal() and 2 <= int(number) <= 16 else 3
            seeds = ",".join(str(seed) for seed in range(1, n + 1))
            raise ConfigError(f"{argument} does not exist any more: use -m trainer.seed={seeds}")
        if not argument.startswith("-") and (now := override(argument)) != argument:
            raise ConfigError(f"{argument} has another name now: use {now}")
