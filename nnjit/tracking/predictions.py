"""The table of predictions of a trained model, a row for each clip."""

import csv
import io

import numpy as np

from ..runtime.text import printable
from ..training import metrics
from ..training.run import Trained

_MOST_CLIPS = 100_000
_MOST_VALUES = 2_000_000  # probabilities: 20 MB as text


def table_of_predictions(trained: Trained) -> tuple[str, int]:
    """Return CSV with a row for each clip of each set, and the number of rows.

    The columns are set, file, offset in seconds, label, prediction, and for each class ``p_class``,
    its probability from the final model, with all digits of a float32. If there are too many clips,
    a regular selection over all sets is written.
    """
    data, sets = trained.data, trained.history.final.sets
    model, classes = trained.classifier.model, data.classes
    n_rows = min(len(data), _MOST_CLIPS, max(1, _MOST_VALUES // len(classes)))
    chosen = np.linspace(0, len(data) - 1, n_rows).astype(np.int64)
    file, start = io.StringIO(newline=""), 0
    out = csv.writer(file)
    out.writerow(
        map(printable, ("set", "file", "offset", "label", "prediction", *_titles(classes)))
    )
    for name, clips in data.sets().items():
        rows = chosen[(chosen >= start) & (chosen < start + len(clips))] - start
        start += len(clips)
        selected, p = clips.take(rows), sets[name].probabilities[rows]
        pairs = zip(selected.labels.tolist(), model.most_probable(p).tolist(), strict=True)
        probabilities = metrics.of_each_class(p).astype(str).tolist()
        for path, offset, (label, prediction), texts in zip(
            selected.files, selected.offsets.tolist(), pairs, probabilities, strict=True
        ):
            cells = (name, path, repr(offset), classes[label], classes[prediction])
            out.writerow([*map(printable, cells), *texts])
    return file.getvalue(), n_rows


def _titles(classes: tuple[str, ...]) -> list[str]:
    return [f"p_{name}" for name in classes]
