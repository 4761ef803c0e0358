"""Records of the jobs of a sweep: a small file for each job, for the table and for resuming."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from filelock import FileLock

from ..errors import ConfigError, short
from ..options import check_options
from .files import write_atomically

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
_STATUS = (RUNNING, FINISHED, FAILED, KILLED)
_MANIFEST, _FOLDER = "sweep.json", "records"
_MOST_BYTES = 1 << 26
_LARGEST = 1e300  # so that a mean of values stays finite


@final
@dataclass
class JobRecord:
    """One job of a sweep. ``values`` are named as in the store: ``final/val_accuracy``.

    If a record says RUNNING and its process no longer exists, the process was killed.
    """

    number: int
    overrides: list[str]
    model: str = ""
    status: str = RUNNING
    reason: str = ""
    pid: int = 0  # of the process that runs the job
    seconds: float = 0.0
    monitor: str = ""
    score: float | None = None  # the best value of the monitored metric
    values: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the record into the folder of its sweep."""
        content = json.dumps(asdict(self), indent=1).encode()
        write_atomically(_path(folder, self.number), content)

    @classmethod
    def read(cls, folder: Path, number: int) -> "JobRecord | None":
        """Return the record of a job, None if it has not begun.

        Raises
        ------
        ConfigError
            If its file is damaged.
        """
        path, remedy = _path(folder, number), f"delete it, and job {number} runs again"
        if not path.exists():
            return None
        record: JobRecord = _read(path, cls, remedy)
        if record.number != number or record.status not in _STATUS:
            raise ConfigError(f"{path} is not the record of job {number}: {remedy}")
        if any(abs(value) > _LARGEST for value in (*record.values.values(), record.score or 0)):
            raise ConfigError(f"{path} holds a value that no run can have: {remedy}")
        return record


@final
@dataclass(frozen=True)
class SweepManifest:
    """A sweep as it is known before its first job; ``jobs`` is None if the sweeper does not say."""

    cwd: str
    arguments: list[str]
    overrides: list[str]
    varied: list[str] | None
    total: int | None
    jobs: list[list[str]] | None
    parent: str = ""

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of the sweep."""
        write_atomically(folder / _MANIFEST, json.dumps(vars(self), indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "SweepManifest":
        """Return the manifest in the folder of a sweep.

        Raises
        ------
        ConfigError
            If there is none, or it is damaged.
        """
        manifest: SweepManifest = _read(folder / _MANIFEST, cls, "start the sweep again")
        return manifest


def read_all(folder: Path) -> list[JobRecord]:
    """Return the records in the folder of a sweep, in the order of the jobs."""
    names = [path.stem for path in (folder / _FOLDER).glob("[0-9]*.json")]
    numbers = sorted(int(name) for name in names if name.isdecimal() and len(name) < 10)
    return [record for n in numbers if (record := JobRecord.read(folder, n)) is not None]


def running(folder: Path, number: int) -> FileLock:
    """Return the lock that the process of a job holds until it ends."""
    return FileLock(_path(folder, number).with_suffix(".lock"), timeout=0)


def _path(folder: Path, number: int) -> Path:
    return folder / _FOLDER / f"{number}.json"


def _read(path: Path, kind: type, remedy: str) -> Any:
    """Return the object that `write` wrote to a file; ConfigError if the file holds another."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError("it is too large")
        plain = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ConfigError("it is no record")
        check_options("it", kind, plain)
        return kind(**plain)
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise ConfigError(f"{path} cannot be read ({short(error)}): {remedy}") from None
