"""Checks that stores, files and configurations choose values only, and never the code that runs.

Anyone who can write to a store, a checkpoint, the manifest of a sweep or a study can choose values.
Only the user at the command line chooses what code runs. Therefore:

- only classes of nnjit that are parts of a run are built, and classes of packages that the command
  line names as trusted; never a function, and not what a record calls trusted (`find_part`);
- a value that is an interpolation after resolving is never built (`check_settled`), and a record,
  which was resolved before it was written, holds none (`recorded`);
- files that a store names are read only in the folders of that store, or in one that the command
  line names (`within`);
- of a recorded command line only overrides of the run's settings are used, and a few of Hydra's:
  none that loads code, logs, calls back, sets variables or starts a program (`recorded_arguments`).

Reading files is safe: `storage.files` reads plain values only, everything else is JSON or YAML. No
process changes to a folder that a record names, since Python looks for modules there.
"""

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, NnjitError, TrackingError, short
from ..options import fits
from ..parts import Part

# Of a configuration: a few bytes of YAML with aliases can expand to billions of values.
_MOST_VALUES, _MOST_DEPTH = 10_000, 20
_GROUPS = (
    *("dataset", "model", "optimizer", "schedule"),
    *("trainer", "augmentation", "tracking", "callbacks", "experiment", "search"),
)
_SETTINGS = (*_GROUPS, "name", "seed", "init_from", "checkpoint_every", "n_classes")
_STORES = ("tracking.root", "tracking.uri", "tracking.artifacts")  # credentials are sent there
_OF_HYDRA = re.compile(
    r"hydra\.(sweep\.dir|job\.name|launcher\.(n_jobs|cpus_per_task|timeout_min)|"
    r"sweeper\.(max_batch_size|study|n_trials|n_jobs|seed|n_startup_trials|prune|"
    r"n_unpruned_trials|n_warmup_epochs))"
)
_CHOICES = {
    "hydra/launcher": ("basic", "joblib", "slurm", "submitit_local", "ray"),
    "hydra/sweeper": ("basic", "optuna"),
}
_SWEPT = "hydra.sweeper.params."
_NODE = re.compile(r"\$\{[\w.]+\}")  # refers to another setting; calls nothing


def find_part(target: Any, place: str, trusted: Sequence[str] = ()) -> Any:
    """Return the class that a ``_target_`` names, a part of nnjit or of a trusted package."""
    from hydra._internal.utils import _locate  # finds what hydra.utils.instantiate will build

    if not isinstance(target, str):
        raise ConfigError(f"{place}._target_={short(target)} is no name of a class")
    package = target.split(".")[0]
    if package not in ("nnjit", *trusted):
        raise ConfigError(
            f"{place}._target_={short(target)} is not of nnjit: "
            f"add trusted=[{short(package)}] if you trust that package"
        )
    try:
        located = _locate(target)
    except Exception as error:
        raise ConfigError(
            f"{place}._target_={short(target)} does not exist: {short(error)}"
        ) from None
    if package in trusted or (inspect.isclass(located) and issubclass(located, Part)):
        return located
    raise ConfigError(f"{place}._target_={target} is no part that a configuration can build")


def check_settled(value: Any, place: str = "", error: type[NnjitError] = ConfigError) -> None:
    """Raise the error if values are not plain, hold an interpolation, or are too many or deep."""
    pending, n_values = [(value, place, 0)], 0
    while pending:
        value, place, depth = pending.pop()
        n_values += 1
        if n_values > _MOST_VALUES or depth > _MOST_DEPTH:
            raise error(f"{short(place)} is part of more values than any configuration has")
        if isinstance(value, str) and "${" in value:
            raise error(f"{short(place)}={short(value)} is still an interpolation: write its value")
        if isinstance(value, dict):
            pending += [(key, place, depth) for key in value]
            pending += [(v, f"{place}.{short(k)}"[-99:], depth + 1) for k, v in value.items()]
        elif isinstance(value, list):
            pending += [(v, f"{place}.{i}"[-99:], depth + 1) for i, v in enumerate(value)]
        elif not isinstance(value, str | int | float | None):
            raise error(f"{short(place)} is a {type(value).__name__}, no plain value")


def recorded(config: Any, trusted: Sequence[str], error: type[NnjitError]) -> dict[str, Any]:
    """Return a recorded configuration that trusts only what the command line trusts."""
    check_settled(config, error=error)
    groups = dict.fromkeys(("dataset", "model", "trainer", "tracking"), dict)
    for key, kind in {**groups, "seed": int, "trusted": list[str] | None}.items():
        if not isinstance(config, dict) or not fits(config.get(key), kind):
            raise error(f"the recorded configuration has no valid {key}: it is damaged")
    for package in config.get("trusted") or ():
        if package not in trusted:
            raise ConfigError(
                f"the run builds classes of {short(package)}: "
                f"add trusted=[{short(package)}] if you trust it"
            )
    return {**config, "trusted": list(trusted)}


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Tell whether a path lies in one of these folders, links resolved."""
    place = Path(os.path.realpath(path)) if "\0" not in str(path) else Path("/")
    return any(place.is_relative_to(os.path.realpath(folder)) for folder in folders)


def within(path: Path, folders: Sequence[Path], key: str) -> Path:
    """Return a path that a store names; TrackingError if it is not in one of these folders.

    ``key`` is the option with which the command line can name such a path.
    """
    if not is_within(path, folders):
        where = " or ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        raise TrackingError(
            f"the store names {short(str(path))}, which is not in {where}: if you trust what is "
            f"there, give {key}={short(str(path))}"
        )
    return Path(os.path.realpath(path))


def recorded_arguments(recorded: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the arguments of a recorded command line that may be passed to Hydra.

    An argument of the command line, ``given``, replaces a recorded one with the same key. Recorded
    arguments that are also in ``given`` are allowed in any case.
    """
    keys = {a.partition("=")[0] for a in given if not a.startswith("-")}
    used = [a for a in recorded if a in given or a[:1] == "-" or a.partition("=")[0] not in keys]
    for argument in to_give_again(used):
        if argument not in given:
            raise ConfigError(
                f"the plan of the sweep holds {short(argument)}, which is not taken from a file: "
                "give it on the command line as well, if it is yours"
            )
    return used


def to_give_again(recorded: Sequence[str]) -> list[str]:
    """Return the arguments of a recorded command line that are not taken from a file."""
    return [a for a in recorded if a not in ("-m", "--multirun") and not _harmless(a)]


def _harmless(argument: str) -> bool:
    key, _, value = re.sub(r"^(\+\+?|~)", "", argument).partition("=")
    if key in _CHOICES:
        return value in _CHOICES[key]
    if _OF_HYDRA.fullmatch(key):
        return not set(value) & set("${}\\")
    key = key.removeprefix(_SWEPT)
    if not re.fullmatch(r"[\w./]+", key) or re.split(r"[./]", key)[0] not in _SETTINGS:
        return False
    if ".py:" in value:
        return False  # a cell in a file, which would be run
    if "/" in key or key in _GROUPS:  # the value names a file in conf/
        return not set(value) & set("$\\:@/{") and ".." not in value
    if key.startswith("callbacks.") and not key.startswith("callbacks.early_stopping.patience"):
        return False  # a callback may send data away
    return key not in _STORES and "\\" not in value and "$" not in _NODE.sub("", value)
