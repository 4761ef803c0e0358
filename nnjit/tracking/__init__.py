"""The record of runs. This package alone knows MLflow, and imports it when a run is tracked."""

from . import query, views
from .address import alone, without_passwords
from .base import NoTracker, Tracker
from .mlflow_tracker import MlflowTracker
from .moved import readable
from .parent import NoParent, Parent, SweepInfo, SweepReport
from .recording import ModelFile
from .store import fetch_model, find_run, open_existing, open_store, store_folders, store_uri
from .unfinished import find_by_checkpoint, find_unfinished

__all__ = [
    "MlflowTracker",
    "ModelFile",
    "NoParent",
    "NoTracker",
    "Parent",
    "SweepInfo",
    "SweepReport",
    "Tracker",
    "alone",
    "fetch_model",
    "find_by_checkpoint",
    "find_run",
    "find_unfinished",
    "open_existing",
    "open_store",
    "query",
    "readable",
    "store_folders",
    "store_uri",
    "views",
    "without_passwords",
]
