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
  none that loads, logs, calls back, sets variables or starts a program; and a sweep goes on only in
  the folder in which it began, since Python starts workers there (`recorded_arguments`).

Reading is safe by itself: `persistence` reads plain values only, everything else is JSON or YAML.
"""

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, NnjitError, TrackingError, short

_MOST_VALUES = 10_000  # in a recorded configuration; a few bytes of YAML can mean billions
_MOST_DEPTH = 20
_GROUPS = (
    "dataset",
    "model",
    "optimizer",
    "schedule",
    "trainer",
    "tracking",
    "experiment",
    "search",
)
_SETTINGS = (*_GROUPS, "name", "seed", "checkpoint_every", "n_classes")
_STORES = ("tracking.root", "tracking.uri", "tracking.artifacts")  # a server is told secrets
_OF_HYDRA = re.compile(
    r"hydra\.(sweep\.dir|job\.name|"
    r"sweeper\.(max_batch_size|study|n_trials|n_jobs|seed|n_startup_trials|prune|"
    r"n_unpruned_trials|n_warmup_epochs)|"
    r"launcher\.(n_jobs|cpus_per_task|timeout_min))"
)
_CHOICES = {
    "hydra/launcher": ("basic", "joblib", "slurm", "submitit_local", "ray"),
    "hydra/sweeper": ("basic", "optuna"),
}
_SWEPT = "hydra.sweeper.params."
_NODE = re.compile(r"\$\{[\w.]+\}")  # refers to another setting; calls nothing


def find_part(target: Any, place: str, trusted: Sequence[str] = ()) -> Any:
    """Return the class that a ``_target_`` names.

    Raises
    ------
    ConfigError
        Where it does not exist, or is neither a part of nnjit nor of a trusted package.
    """
    from hydra.utils import get_object  # finds what hydra.utils.instantiate will build

    if not isinstance(target, str):
        raise ConfigError(f"{place}._target_={short(target)} is no name of a class")
    package = target.split(".")[0]
    if package not in ("nnjit", *trusted):
        raise ConfigError(
            f"{place}._target_={short(target)} is not of nnjit: "
            f"add trusted=[{short(package)}] if you trust that package"
        )
    try:
        found = get_object(target)
    except Exception as error:
        raise ConfigError(f"{place}._target_={target} does not exist: {short(error)}") from None
    if package in trusted or (inspect.isclass(found) and issubclass(found, parts())):
        return found
    raise ConfigError(f"{place}._target_={target} is no part that a configuration can build")


def parts() -> tuple[type, ...]:
    """Return the classes that a configuration may build: these, and what derives from them."""
    from .datasets import Dataset
    from .layers import Bptt, Layer
    from .model import Sequential
    from .optimizers import Optimizer
    from .schedules import Schedule
    from .tracking import Tracker
    from .trainer import Trainer

    return Dataset, Layer, Bptt, Sequential, Optimizer, Schedule, Tracker, Trainer


def check_settled(value: Any, place: str = "", error: type[NnjitError] = ConfigError) -> None:
    """See that plain values hold no interpolation, and are not endless.

    Raises
    ------
    NnjitError
        The given one, where they do or are.
    """
    pending, seen = [(value, place, 0)], 0
    while pending:
        value, place, depth = pending.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _MOST_DEPTH:
            raise error(f"{place} is part of more values than any configuration of nnjit has")
        if isinstance(value, str) and "${" in value:
            raise error(f"{place}={short(value)} is still an interpolation, and stands for nothing")
        if isinstance(value, dict):
            pending += [(key, place, depth) for key in value if isinstance(key, str)]
            pending += [(v, f"{place}.{k}".strip("."), depth + 1) for k, v in value.items()]
        elif isinstance(value, list):
            pending += [(v, f"{place}.{i}", depth + 1) for i, v in enumerate(value)]


def recorded(config: Any, trusted: Sequence[str], error: type[NnjitError]) -> dict[str, Any]:
    """Return a recorded configuration, which trusts what the command line trusts and no more.

    Raises
    ------
    NnjitError
        The given one, where it is no configuration of a run or holds an interpolation.
    ConfigError
        Where it builds classes of packages that the command line does not name as trusted.
    """
    check_settled(config, error=error)
    groups = ("dataset", "model", "trainer", "tracking")
    if not isinstance(config, dict) or any(not isinstance(config.get(g), dict) for g in groups):
        raise error(f"the recorded configuration has no {', '.join(groups)}: it is damaged")
    before = config.get("trusted") or []
    for package in before if isinstance(before, list) else [before]:
        if package not in trusted:
            raise ConfigError(
                f"the run builds classes of {short(package)}: "
                f"add trusted=[{short(package)}] if you trust it"
            )
    return {**config, "trusted": list(trusted)}


def within(path: Path, folders: Sequence[Path], remedy: str) -> Path:
    """Return a path that a store names, links resolved; TrackingError where it lies elsewhere."""
    place = Path(os.path.realpath(path))
    if "\0" in str(path) or not any(place.is_relative_to(f.resolve()) for f in folders):
        where = " or ".join(str(f.resolve()) for f in folders)
        raise TrackingError(
            f"the store names {short(str(path))}, which is not in {where}: if you trust what is "
            f"there, give {remedy}={short(str(path))}"
        )
    return place


def recorded_arguments(recorded: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return what of a recorded command line may be given to Hydra again.

    Parameters
    ----------
    recorded
        As the plan of a sweep has it.
    given
        What stands on the command line now. What is recorded of the same keys is left out, and what
        is recorded word for word as it is given is taken.

    Raises
    ------
    ConfigError
        For the first argument that may not.
    """
    keys = {_key(argument) for argument in given if not argument.startswith("-")}
    kept = [a for a in recorded if a in given or a.startswith("-") or _key(a) not in keys]
    for argument in kept:
        if argument not in ("-m", "--multirun", *given) and not _harmless(argument):
            raise ConfigError(
                f"the plan of the sweep holds {short(argument)}, which is not taken from a file: "
                "give it on the command line as well, if it is yours"
            )
    return kept


def _harmless(argument: str) -> bool:
    key, _, value = re.sub(r"^(\+\+?|~)", "", argument).partition("=")
    if key in _CHOICES:
        return value in _CHOICES[key]
    if _OF_HYDRA.fullmatch(key):
        return not set(value) & set("${}\\")
    key = key.removeprefix(_SWEPT)
    if not re.fullmatch(r"[\w./]+", key) or re.split(r"[./]", key)[0] not in _SETTINGS:
        return False
    if "/" in key or key in _GROUPS:  # its value names a file
        return not set(value) & set("$\\:@/{") and ".." not in value
    return key not in _STORES and "\\" not in value and "$" not in _NODE.sub("", value)


def _key(argument: str) -> str:
    return argument.partition("=")[0]
