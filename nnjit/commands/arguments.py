"""Arguments of the small commands: KEY=VALUE pairs, and where the store is."""

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
        Yield arguments without a key, and files, with an empty one.

    Raises
    ------
    ConfigError
        For a key that is not among ``keys``, and for what has none where that is not asked for.
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
    """Return the address of the store that ``root=`` and ``uri=`` name."""
    if options.get("uri"):
        return options["uri"]
    from ..tracking.address import store_uri, warn_of_other_store

    uri = store_uri(Path(options.get("root", "runs")))
    if "root" not in options:
        warn_of_other_store(uri)
    return uri
