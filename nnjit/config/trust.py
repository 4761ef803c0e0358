"""What a store, a file or a configuration may make happen here, and nothing else may.

Whoever can write to a store, a checkpoint, the plan of a sweep or a study chooses values; who sits
at the command line alone chooses what code runs. So:

- only classes of nnjit that are parts of a run are built, and those of packages that the command
  line names as trusted; never a function, never what a record calls trusted (`find_part`);
- what is an interpolation after it was resolved is never built (`check_settled`), and a record,
  which was resolved when it was written, holds none (`recorded`);
- files that a store names are taken only from the folders of that store, or from one that the
  command line names (`within`);
- of a recorded command line only overrides of the run's own settings are taken, and few of Hydra's:
  none that loads, logs, calls back, sets variables or starts a program (`recorded_arguments`).

Reading is safe by itself: `persistence` reads plain values only, everything else is JSON or YAML.
Nothing goes to a folder that a record names, since Python looks for modules where it is started.
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

_MOST_VALUES, _MOST_DEPTH = 10_000, 20  # of a configuration; few bytes of YAML can mean billions
_GROUPS = (
    *("dataset", "model", "optimizer", "schedule"),
    *("trainer", "augmentation", "tracking", "callbacks", "experiment", "search"),
)
_SETTINGS = (*_GROUPS, "name", "seed", "init_from", "checkpoint_every", "n_classes")
_STORES = ("tracking.root", "tracking.uri", "tracking.artifacts")  # a server is told secrets
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
        found = _locate(target)
    except Exception as error:
        raise ConfigError(
            f"{place}._target_={short(target)} does not exist: {short(error)}"
        ) from None
    if package in trusted or (inspect.isclass(found) and issubclass(found, Part)):
        return found
    raise ConfigError(f"{place}._target_={target} is no part that a configuration can build")


def check_settled(value: Any, place: str = "", error: type[NnjitError] = ConfigError) -> None:
    """Raise the error where values are not plain, hold an interpolation, or are endless."""
    pending, seen = [(value, place, 0)], 0
    while pending:
        value, place, depth = pending.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _MOST_DEPTH:
            raise error(f"{short(place)} is part of more values than any configuration has")
        if isinstance(value, str) and "${" in value:
            raise error(
                f"{short(place)}={short(value)} is still an interpolation: it stands for nothing"
            )
        if isinstance(value, dict):
            pending += [(key, place, depth) for key in value]
            pending += [(v, f"{place}.{short(k)}"[-99:], depth + 1) for k, v in value.items()]
        elif isinstance(value, list):
            pending += [(v, f"{place}.{i}"[-99:], depth + 1) for i, v in enumerate(value)]
        elif not isinstance(value, str | int | float | None):
            raise error(f"{short(place)} is a {type(value).__name__}, no plain value")


def recorded(config: Any, trusted: Sequence[str], error: type[NnjitError]) -> dict[str, Any]:
    """Return a recorded configuration, which trusts what the command line trusts and no more."""
    check_settled(config, error=error)
    groups = dict.fromkeys(("dataset", "model", "trainer", "tracking"), dict)
    for key, kind in {**groups, "seed": int, "trusted": list[str] | None}.items():
        if not isinstance(config, dict) or not fits(config.get(key), kind):
            raise error(f"the recorded configuration has no {key} that can be: it is damaged")
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
    """Return a path that a store names; ``key`` names such a one on the command line."""
    if not is_within(path, folders):
        where = " or ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        raise TrackingError(
            f"the store names {short(str(path))}, which is not in {where}: if you trust what is "
            f"there, give {key}={short(str(path))}"
        )
    return Path(os.path.realpath(path))


def recorded_arguments(recorded: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return what of a recorded command line may be given to Hydra again.

    Of the same keys what is given goes first, and what is given word for word is taken.
    """
    keys = {a.partition("=")[0] for a in given if not a.startswith("-")}
    kept = [a for a in recorded if a in given or a[:1] == "-" or a.partition("=")[0] not in keys]
    for argument in to_give_again(kept):
        if argument not in given:
            raise ConfigError(
                f"the plan of the sweep holds {short(argument)}, which is not taken from a file: "
                "give it on the command line as well, if it is yours"
            )
    return kept


def to_give_again(recorded: Sequence[str]) -> list[str]:
    """Return what of a recorded command line is not taken from a file."""
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
        return False  # the cell of a file, which would be run
    if "/" in key or key in _GROUPS:  # its value names a file
        return not set(value) & set("$\\:@/{") and ".." not in value
    if key.startswith("callbacks.") and not key.startswith("callbacks.early_stopping.patience"):
        return False  # who observes a run may hand it on
    return key not in _STORES and "\\" not in value and "$" not in _NODE.sub("", value)
