"""``python -m nnjit.run``: composes a configuration, trains a model and records the run."""

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ..config import former
from ..config.assemble import assemble
from ..config.build import CONF, plain, settle_cells
from ..config.overrides import ordered, quoted
from ..datasets import DataSplits
from ..errors import ConfigError
from ..model import Sequential
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.secrets import hide
from ..runtime.text import markdown_block
from ..sweeps import jobs, plugins, sweep
from ..sweeps.search import sweeper as search
from ..sweeps.search.study import Trial
from ..tracking import without_passwords
from ..tracking.parent import JOB_TAG
from ..training.checkpoint import FILE_NAME, run_lock
from ..training.run import Outcome, RunInfo
from .initial import initial_model
from .resume import resume

_TAGGED = ("dataset", "model", "optimizer", "schedule", "experiment", "search")


def main() -> None:
    """Run the command line; see ``python -m nnjit.run --help``."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors here, where they become one line
    plugins.register()
    compose = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    with one_line_errors():
        former.refuse(sys.argv[1:])
        multirun = {"-m", "--multirun"} & set(sys.argv[1:])
        if any(a.startswith("resume=") for a in sys.argv[1:]) and not multirun:
            with one_line_warnings():
                resume(sys.argv[1:])
            return
        sys.argv[1:] = sweep.resumed(quoted(ordered(sys.argv[1:])))
        with sweep.open_sweep():
            compose(job)()


def job(cfg: DictConfig) -> float:
    """Run one job of Hydra; return the best value of ``trainer.monitor``."""
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return jobs.job(lambda live_title: run(cfg, live_title))
    with one_line_errors(), one_line_warnings():
        if search.is_search(HydraConfig.get()):
            raise ConfigError("a search is a sweep: add -m, or leave search= out")
        return run(cfg).score


def run(cfg: DictConfig, live_title: str = "") -> Outcome:
    """Train one model as configured; see `RunInfo` for ``live_title``."""
    if cfg.seed is None:
        cfg.seed = int(np.random.SeedSequence().generate_state(1)[0])
    hydra_cfg = HydraConfig.get()
    hide(Path(hydra_cfg.runtime.output_dir) / (hydra_cfg.output_subdir or ".hydra"))
    with run_lock(Path(hydra_cfg.runtime.output_dir) / FILE_NAME):
        with contextlib.chdir(hydra_cfg.runtime.cwd):
            settle_cells(cfg)
            if hydra_cfg.mode is RunMode.MULTIRUN and cfg.init_from == "latest":
                raise ConfigError("init_from=latest is another run for each job: give its id")
            initial = initial_model(cfg)
        trial = search.trial_of(hydra_cfg, cfg)

        def describe(model: Sequential, data: DataSplits) -> RunInfo:
            return replace(_describe(cfg, model, data, trial), live_title=live_title)

        more = [trial] if trial else []
        return assemble(cfg, describe, hydra_cfg.runtime.cwd, more, initial).execute().outcome


def _describe(cfg: DictConfig, model: Sequential, data: DataSplits, trial: Trial | None) -> RunInfo:
    """Return the information for the record of this run: name, recipe, tags."""
    job = HydraConfig.get()
    choices = {group: str(job.runtime.choices.get(group)) for group in _TAGGED}
    overrides = without_passwords(list(job.overrides.task))
    distinguishing = jobs.varied(job) if job.mode is RunMode.MULTIRUN else overrides
    distinguishing = [o for o in distinguishing if not o.startswith(("name=", "experiment="))]
    distinguishing = [f"seed={cfg.seed}" if o == "seed=null" else o for o in distinguishing]
    distinguishing = ([f"trial {trial.number}"] if trial else []) + distinguishing
    name = " ".join([str(cfg.name)] * bool(cfg.name) + distinguishing) or choices["model"]
    name = without_passwords(name)
    tags = {f"nnjit.{group}": choice for group, choice in choices.items() if choice != "None"}
    tags |= {"nnjit.split": str(cfg.dataset.split), "nnjit.seed": str(cfg.seed)}
    tags["nnjit.dataset_digest"] = data.digest
    tags["nnjit.started_in"] = os.getcwd()  # the configuration may hold relative paths
    tags |= trial.tags if trial else {}
    if job.mode is RunMode.MULTIRUN:
        tags[JOB_TAG] = str(job.job.num)
    sections = (_recipe(overrides, cfg.seed), model.summary(), data.describe())
    description = "\n\n".join(map(markdown_block, sections))
    folder = Path(job.runtime.output_dir)
    return RunInfo(
        name,
        without_passwords(plain(cfg)),
        overrides,
        tags,
        description,
        folder,
        None if cfg.checkpoint_every is None else folder / FILE_NAME,
    )


def _recipe(overrides: Sequence[str], seed: int) -> str:
    """Return the command that repeats a run, with the seed, which may have been drawn."""
    others = [o for o in overrides if not o.startswith("seed=")]
    return shlex.join(["python", "-m", "nnjit.run", *others, f"seed={seed}"])
