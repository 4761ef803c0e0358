"""The record of runs. This package alone knows MLflow, and imports it when a run is tracked."""

from .base import NoTracker, RunInfo, Tracker
from .mlflow_tracker import MlflowTracker
from .store import fetch_model, open_store, store_uri

__all__ = [
    "MlflowTracker",
    "NoTracker",
    "RunInfo",
    "Tracker",
    "fetch_model",
    "open_store",
    "store_uri",
]
