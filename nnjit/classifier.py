"""A trained model with the encoding of its inputs and the names of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .datasets import DataSplits, kinds
from .datasets.inputs import InputEncoding
from .errors import ModelFileError, NnjitError, short
from .model import Sequential
from .options import expect
from .storage import files as persistence


@final
@dataclass(frozen=True)
class Prediction:
    """Predictions for clips.

    ``predictions`` (N,) are labels, ``probabilities`` (N, classes); ``ids`` name the clips.
    """

    ids: list[str]
    predictions: NDArray[np.int64]
    probabilities: NDArray[Any]

    @property
    def verdict(self) -> int:
        """The label with the largest mean probability over all clips."""
        return int(self.probabilities.mean(axis=0).argmax())


@final
@dataclass(frozen=True)
class Classifier:
    """A model, the encoding of its clips, and the names of its classes.

    Attributes
    ----------
    model : Sequential
        Built and, usually, trained.
    encoding : InputEncoding
        Turns a recording into inputs of the model; the same as in training.
    classes : sequence of str
        The name of each label.
    positive : int
        The label to which recall and precision refer.
    """

    model: Sequential
    encoding: InputEncoding
    classes: Sequence[str]
    positive: int = 1

    @classmethod
    def of(cls, model: Sequential, data: DataSplits) -> "Classifier":
        """Return a model with the encoding and the classes of its training data."""
        return cls(model, data.encoding, tuple(data.classes), data.positive)

    def predict(self, codes: Any, ids: Sequence[str] = ()) -> Prediction:
        """Classify clips, as in `Sequential.forward`; ShapeError if they do not fit the model."""
        p = self.model.predict_proba(codes)
        predictions = self.model.most_probable(p)
        if p.shape[1] == 1:
            p = np.hstack([1 - p, p])
        return Prediction(list(ids) or [str(i) for i in range(len(p))], predictions, p)

    def predict_file(self, path: str | Path) -> Prediction:
        """Classify the clips of a recording, or the examples of a file, a few at a time.

        Raises
        ------
        DataError
            If the file cannot be read, is silent, or is shorter than one clip.

        Warns
        -----
        UserWarning
            If a part of the file is not read.
        """
        batches = [self.predict(x, ids) for x, ids in kinds.stream(path, self.encoding)]
        return Prediction(
            [clip for batch in batches for clip in batch.ids],
            np.concatenate([batch.predictions for batch in batches]),
            np.concatenate([batch.probabilities for batch in batches]),
        )

    def save(self, path: str | Path) -> None:
        """Write model, encoding and classes to a file; see `nnjit.storage.files`."""
        extra = {
            "encoding": kinds.to_plain(self.encoding),
            "classes": list(self.classes),
            "positive": self.positive,
        }
        persistence.write(path, self.model, extra)

    @classmethod
    def load(cls, path: str | Path) -> "Classifier":
        """Read a file that `save` wrote; ModelFileError for any other file."""
        model, extra = persistence.read(path)
        try:
            expect("the extra of the model", extra, encoding=dict, classes=list[str], positive=int)
            encoding = kinds.from_plain(extra["encoding"])
            classes, positive = tuple(extra["classes"]), extra["positive"]
            fits = model.inputs == encoding.inputs
            known = len(classes) == max(2, model.head.units) and 0 <= positive < len(classes)
            if not fits or not known:
                raise ModelFileError("its encoding or its classes do not fit the model")
        except (ArithmeticError, KeyError, TypeError, ValueError, NnjitError) as error:
            raise ModelFileError(f"{path} is damaged or altered: {short(error)}") from None
        return cls(model, encoding, classes, positive)
