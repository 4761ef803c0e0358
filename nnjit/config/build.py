"""Builds objects from a composed configuration; every value is checked before."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ..errors import ConfigError, NnjitError, first_line, short
from ..options import ANYTHING, check_options, fits
from . import trust

PACKAGE = Path(__file__).parent.parent
# In a wheel conf is inside the package, in a checkout next to it.
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if (p / "config.yaml").exists())

T = TypeVar("T")
_NOTHING = OmegaConf.create({})
_OF_HYDRA = ("_args_", "_partial_", "_recursive_", "_convert_")  # options of `instantiate`


def build(cfg: DictConfig, place: str, kind: type[T]) -> T:
    """Return the object that ``cfg[place]`` describes, an instance of ``kind``.

    It may be of nnjit's classes and of the packages in ``cfg.trusted``.

    Interpolations are resolved once. A value that is still an interpolation, by an escape or by
    concatenation, is refused: `instantiate` would resolve it again, after the check.

    Raises
    ------
    ConfigError
        If a ``_target_`` is not of nnjit or a trusted package, an option does not exist, or a value
        has the wrong type. Errors of the object's constructor are raised as they are.
    """
    try:
        node = OmegaConf.select(cfg, place, default=_NOTHING) or _NOTHING
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value: add {error.full_key}=VALUE") from None
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from None
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise ConfigError(f"{place} names nothing to build: see --help for its choices")
    trust.check_settled(plain, place)
    _refuse_files(plain, place)
    trusted = cfg.get("trusted") or ()
    if isinstance(trusted, str) or not isinstance(trusted, Sequence):
        raise ConfigError(f"trusted={trusted} is no list: write trusted=[PACKAGE]")
    part = _check(plain, place, tuple(trusted))
    if not fits(part, kind):
        raise ConfigError(f"{place}._target_={plain['_target_']} is no {kind.__name__}")
    try:
        built: T = instantiate(plain, _convert_="all")
        return built
    except InstantiationException as error:
        if isinstance(error.__cause__, NnjitError):
            raise error.__cause__ from None
        raise ConfigError(f"{place}: {first_line(error.__cause__ or error)}") from None


def settle_cells(cfg: DictConfig) -> None:
    """Replace cells that are named as ``FILE.py:NAME`` by their equations; the files are run.

    Call it only for a configuration from the command line. A record may not name a file to run: it
    holds the equations.

    Raises
    ------
    ConfigError
        If there is no such cell, it cannot be compiled, or its package is not trusted.
    """
    from ..cells.named import is_file, named
    from ..cells.text import plain as plain_cell

    for place, layer in _layers(cfg):
        value = layer.get("cell")
        if not isinstance(value, str) or not is_file(value):
            continue
        if OmegaConf.is_interpolation(layer, "cell"):
            raise ConfigError(f"{place}.cell={short(value)}: write the name of the file")
        package = value.split(":")[0].split(".")[0]
        if ".py:" not in value and package not in (cfg.trusted or ()):
            raise ConfigError(
                f"{place}.cell={short(value)} is of a package: "
                f"add trusted=[{short(package)}] if you trust it"
            )
        layer.cell = plain_cell(named(value))


def _layers(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the layers of the model with their places, and those that they wrap."""
    for i, layer in enumerate(OmegaConf.select(cfg, "model.layers") or ()):
        place = f"model.layers.{i}"
        while isinstance(layer, DictConfig):
            yield place, layer
            place, layer = f"{place}.layer", layer.get("layer")


def _refuse_files(node: Any, place: str) -> None:
    """Raise ConfigError for a cell that is named by a file: building it would run the file."""
    from ..cells.named import is_file

    if isinstance(node, list):
        for i, value in enumerate(node):
            _refuse_files(value, f"{place}.{i}")
    elif isinstance(node, dict):
        if is_file(node.get("cell")):
            raise ConfigError(
                f"{place}.cell={short(node['cell'])} names a file: a record holds equations, and "
                "only the command line of a new run names a file"
            )
        for key, value in node.items():
            _refuse_files(value, f"{place}.{short(key)}")


def _check(node: Any, place: str, trusted: tuple[str, ...]) -> Any:
    """Check all calls in plain values; return the values with a class in place of each call."""
    if isinstance(node, list):
        return [_check(value, f"{place}.{i}", trusted) for i, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    part = trust.find_part(node["_target_"], place, trusted) if "_target_" in node else None
    options = {
        k: _check(v, f"{place}.{short(k)}", trusted) for k, v in node.items() if k != "_target_"
    }
    if part is None:
        return options
    is_foreign = node["_target_"].split(".")[0] in trusted
    for key in [k for k in options if k in _OF_HYDRA]:
        if not is_foreign:
            raise ConfigError(f"{place}.{key} does not go with {node['_target_']}: leave it out")
        del options[key]
    check_options(place, part, options)
    return ANYTHING if is_foreign else part


def plain(cfg: DictConfig | ListConfig) -> Any:
    """Return a configuration as dicts and lists, with interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True)
