"""What a trained model makes of each clip, as a table."""

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

    The columns: set, file, offset in seconds, label, prediction, and for each class ``p_class``,
    its probability by the final model, in as many digits as tell it from any other. Of very many
    clips some are left out, evenly over all sets.
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
        some, p = clips.take(rows), sets[name].probabilities[rows]
        told = zip(some.labels.tolist(), model.most_probable(p).tolist(), strict=True)
        probabilities = metrics.of_each_class(p).astype(str).tolist()
        for place, offset, (label, prediction), each in zip(
            some.files, some.offsets.tolist(), told, probabilities, strict=True
        ):
            about = (name, place, repr(offset), classes[label], classes[prediction])
            out.writerow([*map(printable, about), *each])
    return file.getvalue(), n_rows


def _titles(classes: tuple[str, ...]) -> list[str]:
    return [f"p_{name}" for name in classes]
