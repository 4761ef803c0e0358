"""Checks option values against the signature and type hints of a constructor."""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import ConfigError, short

ANYTHING = object()  # stands for an object that a trusted package builds: it fits any type


def check_options(place: str, function: Any, options: Mapping[str, Any]) -> None:
    """Check plain values for a call of a class or function; built objects are not checked.

    Raises
    ------
    ConfigError
        Where an option does not exist, or a value has the wrong type.
    """
    known = parameters(function)
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"{place}.{short(key)} does not exist: {choose(key, list(known))}")
        if not fits(value, known[key]):
            raise ConfigError(
                f"{place}.{key}={_quoted(value)} has the wrong type: it takes {named(known[key])}"
            )


def _quoted(value: Any) -> str:
    return repr(short(value)) if isinstance(value, str) else short(value)


def expect(name: str, values: Any, /, **kinds: Any) -> None:
    """Check that plain values are a dict with exactly these keys, each of its type.

    Raises
    ------
    ConfigError
        Where they are not.
    """
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        got = list(values) if isinstance(values, dict) else values
        raise ConfigError(f"{name} has the keys {', '.join(kinds)}, not {short(got)}")
    for key, kind in kinds.items():
        if not fits(values[key], kind):
            raise ConfigError(f"{key} of {name} is {short(values[key])}: it takes {named(kind)}")


def parameters(function: Any) -> dict[str, Any]:
    """Return the type of each option by name, including those passed on through ``**options``."""
    hints_by_name: dict[str, Any] = {}
    kinds = function.__mro__ if inspect.isclass(function) else (function,)
    for kind in kinds:
        call = kind.__dict__.get("__init__") if inspect.isclass(kind) else kind
        if call is None:
            continue
        hints = typing.get_type_hints(call)
        signature = inspect.signature(call).parameters.values()
        for p in signature:
            if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                hints_by_name.setdefault(p.name, hints.get(p.name, Any))
        if not any(p.kind is p.VAR_KEYWORD for p in signature):
            break
    return hints_by_name


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a plain value is of the annotated type; types it does not know fit.

    A class stands for an instance of it that will be built.
    """
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(fits(value, option) for option in typing.get_args(hint))
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return True
    if value is ANYTHING:
        return True
    if isinstance(value, type):
        return not inspect.isclass(origin) or issubclass(value, origin)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return _is_number(value)
    if hint in (str, Path):
        return isinstance(value, str)
    if hint is bytes:
        return isinstance(value, bytes)
    if origin in (list, tuple, Sequence):
        item = arguments[0] if origin is not tuple and arguments else Any
        return isinstance(value, list) and all(fits(entry, item) for entry in value)
    if origin in (dict, Mapping):
        key, entry = arguments or (Any, Any)
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, entry) for k, v in value.items()
        )
    return not isinstance(value, str | int | float | bool | list | dict | bytes | None)


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**1000


def named(hint: Any) -> str:
    """Return a type as a message shows it."""
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")


def choose(value: str, known: Sequence[str]) -> str:
    """Return a remedy for a name that does not exist: the closest name, and all names."""
    close = get_close_matches(str(value)[:99], known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}choose from {', '.join(known)}"


def names(text: str) -> list[str]:
    """Return the names in ``[a,b]`` or ``a,b``, the value of an option on a command line."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def check_counts(of: str, **counts: int | None) -> None:
    """Raise ConfigError, which names the option of a layer, where a number is below 1."""
    for option, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{of} {option}={value} must be 1 or more")
