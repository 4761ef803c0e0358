"""Registers nnjit's launchers and its sweeper as plugins of Hydra."""

import sys
import types

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from ..config.build import CONF
from .launchers.cluster import RayLauncher, SubmititLauncher
from .launchers.processes import JoblibLauncher
from .search.sweeper import SearchSweeper

__all__ = [
    "JoblibLauncher",
    "RayLauncher",
    "SearchSweeper",
    "SubmititLauncher",
    "register",
]
_MODULE = "hydra_plugins.nnjit"  # Hydra looks for plugins only in this name space


def register() -> None:
    """Register the plugins, and let files in conf/ replace those of other packages."""
    known = Plugins.instance().class_name_to_class
    sys.modules.setdefault("hydra_plugins", types.ModuleType("hydra_plugins"))
    sys.modules[_MODULE] = sys.modules[__name__]
    for plugin in (JoblibLauncher, RayLauncher, SearchSweeper, SubmititLauncher):
        known[f"{_MODULE}.{plugin.__name__}"] = plugin
    for group in ("launcher", "sweeper"):
        for path in (CONF / "hydra" / group).glob("*.yaml"):
            ConfigStore.instance().repo["hydra"][group].pop(path.name, None)
