"""A sweeper for Hydra that searches with Optuna instead of a grid.

A trial is a job of the sweep, with the same number. Jobs report each epoch to the study. Their
results are read from the records of the sweep, so that a search that was killed can continue.
"""

import contextlib
import json
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from ...config import trust
from ...config.build import plain
from ...config.overrides import literal
from ...errors import ConfigError, short
from ...options import fits
from ...runtime.threads import available_cores
from ...storage.records import FAILED, FINISHED, JobRecord
from ...tracking import store_folders, without_passwords
from ...tracking.summary import flatten
from ...training.metrics import higher_is_better
from ...training.summary import summary_key
from ..notes import NOTES
from .study import StudyConfig, Trial, load_optuna, sampler, trial_seed

TARGET = "hydra_plugins.nnjit.SearchSweeper"
_MAY_DIFFER = ("hydra", "tracking", "name", "trusted")  # settings that may differ between trials
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_SHOWN = 10  # trials in the table at the end


def trial_of(hydra: DictConfig, cfg: DictConfig) -> Trial | None:
    """Return the trial of a job of Hydra, None if the job is not part of a search."""
    if hydra.mode is None or hydra.mode.name != "MULTIRUN" or not is_search(hydra):
        return None
    return Trial(StudyConfig.of(hydra.sweeper, cfg), hydra.job.num)


def is_search(hydra: DictConfig) -> bool:
    """Tell whether the jobs of a sweep are trials of a search."""
    return bool(hydra.sweeper.get("_target_") == TARGET)


def earlier(config: DictConfig) -> Path | None:
    """Return the folder of the sweep that began the study, None for a new study."""
    if not is_search(config.hydra):
        return None
    settings = StudyConfig.of(config.hydra.sweeper, config)
    if settings.file is not None and not settings.file.exists():
        return None
    try:
        known = settings.open().user_attrs
    except KeyError:
        return None
    folder = Path(str(known.get("folder", "")))
    if not folder.is_absolute() or not folder.is_dir():
        return None
    where = {"tracking.root": str(OmegaConf.select(config, "tracking.root") or "runs")}
    sweep_folder = Path(config.hydra.sweep.dir)
    return trust.within(folder, [*store_folders(where), sweep_folder], "hydra.sweep.dir")


@final
class SearchSweeper(Sweeper):
    """Lets Optuna choose the overrides of each job. Parameters: ``conf/hydra/sweeper/optuna.yaml``.

    A study ends with ``n_trials`` trials, those of earlier commands included.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        seed: int | None,
        n_startup_trials: int,
        params: DictConfig | None = None,
        **settings: Any,
    ) -> None:
        if n_trials < 1 or n_jobs < -1 or n_jobs == 0:
            raise ConfigError(
                f"hydra.sweeper.n_trials={n_trials} n_jobs={n_jobs}: use 1 or more, or "
                "n_jobs=-1 for all cores"
            )
        self._n_trials = n_trials
        self._n_jobs = available_cores() if n_jobs == -1 else n_jobs
        self._seed, self._n_startup_trials = seed, n_startup_trials
        self._params = dict(params or {})

    def setup(
        self, *, hydra_context: Any, task_function: Callable[..., Any], config: DictConfig
    ) -> None:
        """Store what Hydra passes about the sweep, and create its launcher."""
        self._config, self._loader = config, hydra_context.config_loader
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._settings = StudyConfig.of(config.hydra.sweeper, config)
        self._folder = Path(config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has ``n_trials``."""
        self._fixed, self._space = self._read(arguments)
        recipe = self._recipe()
        with self._study_lock():
            self._study = self._open()
            try:
                self._begin(recipe)
                self._finish_open_trials()
                while (left := self._n_trials - len(self._study.get_trials(deepcopy=False))) > 0:
                    n = min(left, self._n_jobs)
                    self._run([self._ask() for _ in range(n)])
            finally:
                self._report()

    def _ask(self) -> tuple[int, dict[str, Any]]:
        """Return number and parameters of a new trial.

        The seed depends on the number of the trial, so that a resumed search draws the same
        parameters as without the interruption.
        """
        number = len(self._study.get_trials(deepcopy=False))
        seed = None if self._seed is None else trial_seed(self._seed, number)
        self._study.sampler = sampler(n_startup_trials=self._n_startup_trials, seed=seed)
        trial = self._study.ask(self._distributions())
        return trial.number, trial.params

    def _read(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, Override]]:
        """Return the fixed overrides of all jobs, and the searched overrides by key."""
        parser = OverridesParser.create(config_loader=self._loader)
        parsed = parser.parse_overrides([f"{key}={value}" for key, value in self._params.items()])
        parsed += parser.parse_overrides(list(arguments))
        last = {o.get_key_element(): o for o in parsed}  # the command line replaces the file
        space = {key: o for key, o in last.items() if o.is_sweep_override()}
        if not space:
            raise ConfigError(
                "there is nothing to search: add search=gru, or KEY='interval(LOW,HIGH)'"
            )
        return [str(o.input_line) for o in last.values() if not o.is_sweep_override()], space

    def _distributions(self) -> dict[str, Any]:
        return {key: _distribution(o) for key, o in self._space.items()}

    def _recipe(self) -> dict[str, str]:
        """Return the settings that all trials share; this composes a first trial as a check."""
        first = {key: _first(d) for key, d in self._distributions().items()}
        composed = self._loader.load_sweep_config(self._config, self._overrides(first))
        settings = plain(OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"]))
        (settings.get("callbacks") or {}).pop("tracker", None)  # the same as `tracking`
        common = {key: value for key, value in settings.items() if key not in _MAY_DIFFER}
        same = {key: str(value) for key, value in flatten(common).items()}
        return same | {key: str(o.input_line) for key, o in self._space.items()}

    def _open(self) -> Any:
        """Return the study, which is created if there is none of that name."""
        more = higher_is_better(str(self._config.trainer.monitor))
        return self._settings.open(direction="maximize" if more else "minimize")

    def _begin(self, recipe: dict[str, str]) -> None:
        """Store the settings that all trials share; ConfigError if the study has others."""
        known = _recorded_recipe(self._study) or recipe
        for key in sorted({**known, **recipe}):
            if known.get(key) != recipe.get(key):
                raise ConfigError(
                    f"the study {self._settings.name} was begun with {key}={known.get(key)}, not "
                    f"{recipe.get(key)}: start another with hydra.sweeper.study=NAME"
                )
        self._study.set_user_attr("recipe", json.dumps(recipe))
        self._study.set_user_attr("folder", str(self._folder))

    @contextlib.contextmanager
    def _study_lock(self) -> Iterator[None]:
        """Lock the study against other searches, which would run its open trials too."""
        from filelock import FileLock, Timeout

        path = self._settings.file or Path("runs", "optuna").resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.{self._settings.name}.lock"), timeout=0)
        try:
            with lock:
                yield
        except Timeout:
            raise ConfigError(
                f"another process searches in the study {self._settings.name}: wait for it, or "
                "start another with hydra.sweeper.study=NAME"
            ) from None

    def _finish_open_trials(self) -> None:
        """Close the open trials of an interrupted search; run those again that did not end."""
        for trial in self._study.get_trials(states=(load_optuna().trial.TrialState.RUNNING,)):
            if not self._tell(trial.number):
                self._check_params(trial)
                self._run([(trial.number, trial.params)])

    def _check_params(self, trial: Any) -> None:
        """Raise ConfigError if the parameters of a trial are outside the space of this search."""
        known = self._distributions()
        for key, value in trial.params.items():
            if key not in known or not _may_be(value, known[key]):
                raise ConfigError(
                    f"trial {trial.number} of the study {self._settings.name} tried {short(key)}="
                    f"{short(value)}, which this search does not: start another with "
                    "hydra.sweeper.study=NAME"
                )

    def _run(self, trials: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Run trials with consecutive numbers, and tell the study their results."""
        jobs = [self._overrides(params) for _, params in trials]
        self._launcher.launch(jobs, initial_job_idx=trials[0][0])
        for number, _ in trials:
            self._tell(number)

    def _overrides(self, params: dict[str, Any]) -> list[str]:
        return [
            *self._fixed,
            *(f"{self._space[k].get_key_element()}={v}" for k, v in params.items()),
        ]

    def _tell(self, number: int) -> bool:
        """Tell the study the result of a trial; return False if it did not end."""
        record = JobRecord.read(self._folder, number)
        if record is None or record.status not in (FINISHED, FAILED):
            return False
        state = load_optuna().trial.TrialState
        if record.status == FAILED:
            self._study.tell(number, state=state.FAIL)
        elif "pruned" in self._study.get_trials(deepcopy=False)[number].user_attrs:
            self._study.tell(number, state=state.PRUNED)
        else:
            self._study.tell(number, record.score)
        return True

    def _report(self) -> None:
        """Add a figure, the best trial and the command that repeats it to the report."""
        from ...reporting import figures  # imports matplotlib

        trials, monitor = self._study.get_trials(deepcopy=False), str(self._config.trainer.monitor)
        counts = [
            f"{sum(t.state.name == state for t in trials)} {name}"
            for state, name in _STATES.items()
        ]
        where = without_passwords(self._settings.storage)
        lines = [f"study    {self._settings.name} in {where}: {', '.join(counts)}"]
        values, files = {}, []
        if any(t.state.name == "COMPLETE" for t in trials):
            best = self._study.best_trial
            again = ["python", "-m", "nnjit.run", *without_passwords(self._overrides(best.params))]
            lines += [
                f"best     trial {best.number} with {monitor} {best.value:.4f} at its best epoch",
                f"again    {shlex.join(again)}",
            ]
            values = {"best/trial": float(best.number), summary_key("best", monitor): best.value}
            files = [self._folder / "search.png"]
            figure = figures.search(trials, _importance(self._study), monitor)
            figure.savefig(files[0], dpi=110)
        NOTES.add(
            [*_table(trials, self._study.direction.name == "MAXIMIZE"), *lines], values, files
        )


def _table(trials: Sequence[Any], maximize: bool) -> list[str]:
    """Return the best trials as lines of text, best first."""
    evaluated = [t for t in trials if t.value is not None]
    evaluated.sort(key=lambda t: (t.state.name != "COMPLETE", -t.value if maximize else t.value))
    keys = list(dict.fromkeys(key for t in trials for key in t.params))
    rows = [["trial", "value", "", *(_short(key, keys) for key in keys)]]
    for t in evaluated[:_SHOWN]:
        params = [str(t.params.get(key, "")) for key in keys]
        rows.append([str(t.number), f"{t.value:.4f}", _STATES[t.state.name], *params])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    hidden = len(trials) - len(lines) + 1
    return [*lines, *([f"and {hidden} more"] if hidden else []), ""]


def _short(key: str, keys: Sequence[str]) -> str:
    """Return the shortest end of a key that distinguishes it from the others."""
    parts = key.split(".")
    for n in range(1, len(parts)):
        end = ".".join(parts[-n:])
        if sum(f".{other}".endswith(f".{end}") for other in keys) == 1:
            return end
    return key


def _distribution(override: Override) -> Any:
    """Return Optuna's distribution for an override such as ``KEY=interval(0,1)``."""
    distributions, value, key = load_optuna().distributions, override.value(), override.key_or_group
    log = "log" in getattr(value, "tags", ())
    if override.is_choice_sweep():
        return distributions.CategoricalDistribution(
            [_choice(element) for element in override.sweep_iterator()]
        )
    try:
        if isinstance(value, IntervalSweep):
            integral = isinstance(value.start, int) and isinstance(value.end, int)
            kind = distributions.IntDistribution if integral else distributions.FloatDistribution
            return kind(value.start, value.end, log=log)
        if isinstance(value, RangeSweep):
            numbers = list(value.range())
            integral = all(isinstance(n, int) for n in numbers)
            kind = distributions.IntDistribution if integral else distributions.FloatDistribution
            return kind(numbers[0], numbers[-1], log=log, step=value.step)
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{override.input_line}: {error}") from None
    raise ConfigError(f"{key}: write choice(...), range(...) or interval(...)")


def _choice(element: Any) -> Any:
    """Return what a study keeps of one of some choices: numbers, or text as an override has it."""
    if isinstance(element, bool | int | float):
        return element
    if isinstance(element, str):  # choice(...) takes the quotes off
        return literal("choice", element).partition("=")[2]
    return Transformer.str(element)


def _may_be(value: Any, distribution: Any) -> bool:
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return any(type(value) is type(choice) and value == choice for choice in choices)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _recorded_recipe(study: Any) -> dict[str, str]:
    try:
        known = json.loads(study.user_attrs.get("recipe", "{}"))
    except (TypeError, ValueError, RecursionError):
        known = None
    if not fits(known, dict[str, str]):
        raise ConfigError("the study is damaged: start another with hydra.sweeper.study=NAME")
    return dict(known)


def _first(distribution: Any) -> Any:
    choices = getattr(distribution, "choices", None)
    return choices[0] if choices else distribution.low


def _importance(study: Any) -> dict[str, float]:
    """Return the importance of each parameter (fractions of the variance), the largest first."""
    optuna = load_optuna()
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError):
        warnings.simplefilter("ignore")  # too few trials, or all with equal values
        return dict(optuna.importance.get_param_importances(study))
    return {}
