"""The record of runs. Only this package uses MLflow, and imports it when a run is tracked."""

from ..runtime.secrets import without_passwords
from . import views
from .address import database_lock, store_folders, store_uri
from .base import NoTracker, Tracker
from .mlflow_tracker import MlflowTracker
from .parent import NoParent, Parent, SweepInfo, SweepReport
from .recorded import RecordedRun
from .recording import ModelFile
from .store import Store
from .unfinished import find_by_checkpoint, find_unfinished

__all__ = [
    "MlflowTracker",
    "ModelFile",
    "NoParent",
    "NoTracker",
    "Parent",
    "RecordedRun",
    "Store",
    "SweepInfo",
    "SweepReport",
    "Tracker",
    "database_lock",
    "find_by_checkpoint",
    "find_unfinished",
    "store_folders",
    "store_uri",
    "views",
    "without_passwords",
]
