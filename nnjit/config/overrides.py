"""Prepares the arguments of a command line for Hydra, and explains Hydra's errors in one line."""

import contextlib
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, first_line
from ..options import choose
from . import former
from .build import CONF, PACKAGE

# The functions that let Hydra compose: an error in Hydra below them is due to an option.
_COMPOSING = {("run.py", "main"), ("sweep.py", "open"), ("sweeper.py", "_recipe")}


def ordered(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the flags first, since argparse needs overrides to be contiguous.

    Raises
    ------
    ConfigError
        If a flag does not exist or has no value.
    """
    from hydra._internal.utils import get_args_parser

    known = {name: a for a in get_args_parser()._actions for name in a.option_strings}
    flags: list[str] = []
    overrides: list[str] = []
    waiting = list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        name, equals, _ = argument.partition("=")
        names = [name] if name in known else [k for k in known if k.startswith(name)]
        if len(names) != 1 or name in ("-", "--"):
            close = f"write {argument.lstrip('-')}" if equals else "options are KEY=VALUE"
            raise ConfigError(f"{argument} is no flag: {close}; see --help and --hydra-help")
        action = known[names[0]]
        if equals or action.nargs == 0:
            continue
        if action.nargs == "?":
            flags += [waiting.pop()] if waiting and waiting[-1] in (action.choices or ()) else []
        elif waiting:
            flags.append(waiting.pop())
        else:
            raise ConfigError(f"{argument} has no value: write {argument} VALUE; see --hydra-help")
    return [*flags, *overrides]


def quoted(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with quotes around values that Hydra's grammar does not accept.

    The shell has removed the user's quotes from paths with umlauts, commas or ``~``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, arguments_in_quotes = OverridesParser.create(), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and not argument.startswith("-"):
            try:
                parser.parse_override(argument)
            except HydraException:
                argument = literal(key, value)
        arguments_in_quotes.append(argument)
    return arguments_in_quotes


def literal(key: str, value: str) -> str:
    """Return an override whose value is this text, in quotes where it would be another bare."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    bare = f"{key}={value}"
    try:
        if OverridesParser.create().parse_override(bare).value() == value:
            return bare
    except HydraException:
        pass
    return f"{key}={QuotedString(value, Quote.double).with_quotes()}"


def unquoted(argument: str) -> str:
    """Return the value of an override as text, without the quotes that `literal` puts around it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = argument.partition("=")[2]
    if value[:1] not in ("'", '"'):
        return value
    return str(OverridesParser.create().parse_override(argument).value())


def explain(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Return one line for an error of Hydra that is due to an option; None for a bug.

    Parameters
    ----------
    arguments
        The command line.
    """
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.options is not None:
        return _no_choice(str(error.missing_cfg_file), error.options)
    if isinstance(error.__cause__, OmegaConfBaseException) and (line := _missing(error.__cause__)):
        return line
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write KEY=VALUE, with quotes around odd values"
    if str(error).startswith("Ambiguous value for argument"):
        several = str(error).split("'")[1]
        return (
            f"{several} has several values: add -m to train one run for each, or write a list as "
            "KEY=[A,B]"
        )
    if isinstance(error, HydraException | OmegaConfBaseException) or _is_composing(error):
        return _blame(error, arguments)
    return None


def _no_choice(path: str, options: Sequence[str]) -> str:
    """Return a line on a choice that a group does not have; ``path`` is group/choice."""
    parts = path.split("/")
    n = max((i for i in range(1, len(parts)) if CONF.joinpath(*parts[:i]).is_dir()), default=1)
    group, choice = "/".join(parts[:n]), "/".join(parts[n:])
    line = f"{group}={choice} does not exist: "
    if now := former.CHOICES.get(group, {}).get(choice):
        return f"{line}its name is {now} now"
    if group == "dataset" and "/" in choice:
        return f"{line}for your recordings use dataset=folder dataset.root={choice}"
    return line + choose(choice, sorted(o for o in options if not o.startswith("_")))


def _missing(error: Any) -> str | None:
    """Return a line on a key that does not exist; None if that is not the error."""
    from omegaconf import ListConfig

    node = error.parent_node
    if node is None or error.key is None:
        return None
    keys = [str(k) for k in (range(len(node)) if isinstance(node, ListConfig) else node)]
    if str(error.key) in keys:
        return None
    line = f"{error.full_key} does not exist: "
    if now := former.OPTIONS.get(str(error.full_key)):
        return f"{line}use {now}"
    if elsewhere := _elsewhere(str(error.full_key), node._get_root()):
        return line + elsewhere
    return line + (choose(str(error.key), keys) if keys else f"+{error.full_key}=VALUE adds it")


def _elsewhere(key: str, root: Any) -> str:
    """Return a hint on where a key exists: in another choice of its group, or under another key."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    group, _, option = key.partition(".")
    others = sorted((CONF / group).glob("[!_]*.yaml")) if option else []
    choices = [p.stem for p in others if option in list(OmegaConf.load(p))]
    if choices:
        return f"it is an option of {' and '.join(f'{group}={choice}' for choice in choices)}"
    similar, waiting = [], [("", root)]
    while waiting:
        place, node = waiting.pop(0)
        if isinstance(node, ListConfig):
            waiting += [(f"{place}{i}.", node._get_node(i)) for i in range(len(node))]
        elif isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
            nodes = [(str(k), node._get_node(k)) for k in node if place or k != "hydra"]
            similar += [place + name for name, _ in nodes if name == key.rpartition(".")[2]]
            waiting += [
                (f"{place}{name}.", below) for name, below in nodes if not below._is_interpolation()
            ]
    return f"did you mean {' or '.join(similar[:3])}?" if similar else ""


def _is_composing(error: BaseException) -> bool:
    """Tell whether the error was raised in Hydra while it composed the options."""
    frames = [(Path(f.f_code.co_filename), f) for f, _ in traceback.walk_tb(error.__traceback__)]
    ours = [(path.name, f.f_code.co_name) for path, f in frames if path.is_relative_to(PACKAGE)]
    return bool(ours) and ours[-1] in _COMPOSING and frames[-1][0].parent != PACKAGE


def _blame(error: BaseException, arguments: Sequence[str]) -> str:
    """Return a line that names the override that cannot be composed."""
    lines = [first_line(e) for e in (error, error.__cause__) if e is not None]
    place = getattr(error, "full_key", None)
    reason = ": ".join([*([str(place)] if place else []), *dict.fromkeys(lines)])
    overrides = [a for a in arguments if (not a.startswith("-") and "=" in a) or a.startswith("~")]
    failing = _first_failing(overrides)
    key = failing.partition("=")[0].lstrip("+~").partition("@")[0] if failing else ""
    if failing.startswith("="):
        return f"cannot read '{failing}': write GROUP=CHOICE or KEY=VALUE"
    if key and (CONF / key).is_dir():
        choices = sorted(p.stem for p in (CONF / key).glob("*.yaml") if p.stem[0] != "_")
        return f"{failing}: write GROUP=CHOICE with one of {', '.join(choices)}"
    if failing.startswith("~") and any(name.isdecimal() for name in key.split(".")):
        list_key = key.rpartition(".")[0]
        return f"{failing}: no entry of a list can be deleted: write all others, {list_key}=[...]"
    if failing == "" and str(error).startswith("Config group override must be"):
        return "a group takes the name of one of its choices: write GROUP=CHOICE; see --help"
    if not failing:
        hydras = [o for o in overrides if o.lstrip("+~").startswith("hydra")]
        failing = ", ".join(hydras if hydras and _is_composing(error) else [])
    if not failing or failing in reason:
        return reason
    return f"{failing} does not work: {reason}"


def _first_failing(overrides: Sequence[str]) -> str:
    """Return the first override that cannot be composed by itself; empty if there is none.

    It clears Hydra's global state, so the command must not compose again.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for override in overrides:
            with contextlib.suppress(Exception):
                if OverridesParser.create().parse_override(override).is_sweep_override():
                    continue
            try:
                compose("config", [override], return_hydra_config=True)
            except Exception:
                return override
    return ""
