"""The files of a run in an MLflow store: figures and the model."""

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from .. import __version__
from ..layers import Signal
from ..training.run import MODEL_FILE, Trained
from .recording import reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPARE = 1 << 20  # bytes that must stay free for the store after a model is written


@final
class Artifacts:
    """Writes the files of a run; files of the same name are replaced.

    ``local`` is the folder of a store on this machine, None for a remote store.
    """

    def __init__(self, client: Any, run_id: str, local: Path | None) -> None:
        self._client, self._run_id, self._local = client, run_id, local

    def log_figures(self, trained: Trained) -> None:
        """Draw and log the figures; one that cannot be drawn is left out, with a warning."""
        with tempfile.TemporaryDirectory() as folder:
            for name, draw in _figures(trained).items():
                try:
                    draw().savefig(Path(folder) / f"{name}.png", dpi=110)
                except OSError:
                    raise
                except Exception as error:
                    warnings.warn(f"no figure {name}: {reason(error)}", stacklevel=2)
            self._client.log_artifacts(self._run_id, folder, "figures")

    def log_model(self, trained: Trained) -> None:
        """Log the model, and delete one that was logged before."""
        import numpy as np
        from mlflow import pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        run = self._client.get_run(self._run_id)
        self._remove_models(run.info.experiment_id)
        inputs = trained.classifier.encoding.inputs
        shape = (-1, inputs.n_steps or -1)  # of any length: MLflow then takes arrays of objects too
        spec = TensorSpec(np.dtype("uint8"), shape)
        if isinstance(inputs, Signal):
            spec = TensorSpec(np.dtype("float32"), (*shape, inputs.n_features))
        signature = ModelSignature(Schema([spec]))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            path = trained.model_file
            if not path.exists():
                path = Path(folder) / MODEL_FILE
                trained.classifier.save(path)
            self._check_space(path.stat().st_size)
            # MLflow would run an input example through a second copy of the model, which takes 3 s.
            warnings.filterwarnings("ignore", ".*input example.*")
            # Without an active run, which would depend on environment variables, and could fail.
            model = self._client.create_logged_model(
                run.info.experiment_id, "model", self._run_id, params=run.data.params
            )
            Model.log(
                artifact_path=None,
                model_id=model.model_id,
                flavor=pyfunc,
                run_id=self._run_id,
                loader_module="nnjit.pyfunc",
                data_path=str(path),
                step=trained.history.final.epoch,  # the epoch of the model's parameters
                signature=signature,
                pip_requirements=[f"nnjit=={__version__}", f"mlflow=={version('mlflow')}"],
            )

    def _check_space(self, size: int) -> None:
        """Raise OSError for a file that would fill the disk: the store must stay writable."""
        if self._local and shutil.disk_usage(self._local).free < size + _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._local))

    def _remove_models(self, experiment: str) -> None:
        query = f"source_run_id = '{self._run_id}'"
        for model in self._client.search_logged_models([experiment], query):
            self._client.delete_logged_model(model.model_id)


def _figures(trained: Trained) -> dict[str, Callable[[], "Figure"]]:
    from ..reporting import figures

    history, data = trained.history, trained.data
    sets = history.final.sets
    return {
        "learning_curves": partial(figures.learning_curves, history, data),
        "confusion_matrix": partial(figures.confusion_matrices, sets, data.classes),
        "precision_recall": partial(figures.precision_recall, sets, data),
        "clips": partial(figures.clips, data.train, data),
    }
