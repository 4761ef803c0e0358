"""Parses KEY=VALUE arguments of commands, and finds the store."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..options import choose


def key_values(
    arguments: Sequence[str], keys: Sequence[str], others: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield the KEY=VALUE arguments of a command as pairs.

    Parameters
    ----------
    others
        Yield arguments without a key, and existing files, with an empty key.

    Raises
    ------
    ConfigError
        If a key is not among ``keys``, or if an argument has none without ``others``.
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-") and not Path(argument).exists():
            raise ConfigError(f"{argument} is no option: write KEY=VALUE; see --help")
        if key in keys and equals:
            yield key, value
        elif others and (not equals or Path(argument).exists()):
            yield "", argument
        elif not equals:
            raise ConfigError(f"cannot read '{argument}': write KEY=VALUE; see --help")
        else:
            raise ConfigError(f"{key} does not exist: {choose(key, keys)}")


def store_options(options: Mapping[str, str]) -> str:
    """Return the address of the store from the options ``root`` and ``uri``."""
    if options.get("uri"):
        return options["uri"]
    from ..tracking.address import store_uri, warn_of_other_store

    uri = store_uri(Path(options.get("root", "runs")))
    if "root" not in options:
        warn_of_other_store(uri)
    return uri
