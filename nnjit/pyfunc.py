"""Lets MLflow load a logged model: ``mlflow.pyfunc.load_model(...).predict(codes)``."""

from typing import Any, final

import numpy as np

from .classifier import Classifier


@final
class PyfuncModel:
    """A classifier with the interface of MLflow's models."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a table: the prediction and the probability of each class, a row for each clip.

        Parameters
        ----------
        model_input
            Codes, (N, T), integers below the levels of the encoding, or signals, (N, T, D). Clips
            of any length are a list of arrays, or, as MLflow has it, an array (N,) of objects.
        """
        import pandas as pd  # MLflow, the only caller, depends on it

        is_ragged = isinstance(model_input, np.ndarray) and model_input.dtype.hasobject
        clips = list(model_input) if is_ragged else model_input
        prediction = self.classifier.predict(
            clips if isinstance(clips, list) else np.asarray(clips)
        )
        classes = self.classifier.classes
        table = {"prediction": [classes[k] for k in prediction.predictions]}
        table |= {
            f"p_{name}": p for name, p in zip(classes, prediction.probabilities.T, strict=True)
        }
        return pd.DataFrame(table)


def _load_pyfunc(path: str) -> PyfuncModel:
    return PyfuncModel(Classifier.load(path))
