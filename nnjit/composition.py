"""From a composed configuration to objects: every value is checked before anything is built."""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from .errors import ConfigError, NnjitError

PACKAGE = Path(__file__).parent
# In a wheel conf lies inside the package, in a checkout beside it.
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if (p / "config.yaml").exists())


def build(cfg: DictConfig, place: str, trusted: Sequence[str] | None = ()) -> Any:
    """Return the object that ``cfg[place]`` describes.

    Raises
    ------
    ConfigError
        Where a ``_target_`` is not nnjit's or of a trusted package, an option does not exist, or
        a value has the wrong type; and whatever the object's own checks raise.
    """
    try:
        OmegaConf.resolve(cfg[place])
        plain = OmegaConf.to_container(cfg[place], resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value: add {error.full_key}=VALUE") from None
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from None
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise ConfigError(f"{place} names nothing to build: see --help for its choices")
    _check(plain, place, tuple(trusted or ()))
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, NnjitError):
            raise error.__cause__ from None
        raise ConfigError(f"{place}: {first_line(error.__cause__ or error)}") from None


def first_line(error: BaseException) -> str:
    """Return the first line of a message that has something to say."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def choose(value: str, known: Sequence[str]) -> str:
    """Return a remedy for a name that does not exist: the likely one, and all there are."""
    close = get_close_matches(value, known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}choose from {', '.join(known)}"


def _check(node: Any, place: str, trusted: tuple[str, ...]) -> None:
    if isinstance(node, list):
        for i, value in enumerate(node):
            _check(value, f"{place}.{i}", trusted)
        return
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        _check_call(node, place, trusted)
    for key, value in node.items():
        _check(value, f"{place}.{key}", trusted)


def _check_call(node: dict[str, Any], place: str, trusted: tuple[str, ...]) -> None:
    target = str(node["_target_"])
    package = target.split(".")[0]
    if package not in ("nnjit", *trusted):
        raise ConfigError(
            f"{place}._target_={target} is not of nnjit: "
            f"add trusted=[{package}] if you trust that package"
        )
    function = _find(target, place)
    if package not in trusted and not (
        inspect.isclass(function) and issubclass(function, _parts())
    ):
        raise ConfigError(f"{place}._target_={target} is no part that a configuration can build")
    parameters = _parameters(function)
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters:
            raise ConfigError(f"{place}.{key} does not exist: {choose(key, list(parameters))}")
        hint = parameters[key]
        if not (isinstance(value, dict) and "_target_" in value) and not _fits(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise ConfigError(f"{place}.{key}={value!r} has the wrong type: it takes {wanted}")


def _parts() -> tuple[type, ...]:
    """Return the classes that a configuration may build: these, and what derives from them."""
    from .datasets import Dataset
    from .layers import Bptt, Layer
    from .model import Sequential
    from .optimizers import Optimizer
    from .schedules import Schedule
    from .tracking import Tracker
    from .trainer import Trainer

    return Dataset, Layer, Bptt, Sequential, Optimizer, Schedule, Tracker, Trainer


def _find(target: str, place: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{place}._target_={target} does not exist: {error}") from None


def _parameters(function: Any) -> dict[str, Any]:
    """Return the options by name with their types, those that ``**options`` passes on included."""
    found: dict[str, Any] = {}
    kinds = function.__mro__ if inspect.isclass(function) else (function,)
    for kind in kinds:
        call = kind.__dict__.get("__init__") if inspect.isclass(kind) else kind
        if call is None:
            continue
        hints = typing.get_type_hints(call)
        parameters = inspect.signature(call).parameters.values()
        for p in parameters:
            if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                found.setdefault(p.name, hints.get(p.name, Any))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a plain value is of the annotated type; what it cannot judge fits."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_fits(value, option) for option in typing.get_args(hint))
    origin = typing.get_origin(hint) or hint
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, str)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list)
    if origin in (dict, Mapping):
        return isinstance(value, dict)
    return hint is Any or not isinstance(value, str | int | float | bool | None)


def plain(cfg: DictConfig | ListConfig) -> Any:
    """Return a configuration as dicts and lists, interpolations filled in."""
    return OmegaConf.to_container(cfg, resolve=True)
