"""Missing values of examples: refused, or filled by a rule that knows the training set alone."""

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

MISSING = ("error", "zero", "mean", "interpolate")
LEARNED = ("mean", "interpolate")  # that need means of the training set


def means(signals: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the mean of what is there of each feature of signals (N, T, D) or (M, D).

    Raises
    ------
    DataError
        If nothing is there of a feature.
    """
    there = ~np.isnan(signals)
    axes = tuple(range(signals.ndim - 1))
    counts = there.sum(axis=axes)
    if not counts.all():
        raise DataError(
            f"value {int(counts.argmin())} of a step is missing in all examples of the training "
            "set: leave it out"
        )
    total = np.where(there, signals, 0).sum(axis=axes, dtype=np.float64)
    return tuple((total / counts).tolist())


def filled(signals: NDArray[np.float32], rule: str, fill: tuple[float, ...]) -> NDArray[np.float32]:
    """Return signals (N, T, D) without NaN.

    Parameters
    ----------
    signals : array of float32
        As the file has them.
    rule : {"zero", "mean", "interpolate"}
        What stands for a missing value: 0; the mean of its feature; a value on the line between
        its neighbours in time, at an end the nearest. An example that has nothing of a feature
        gets the mean there.
    fill : tuple of float, length D
        Mean of each feature over the training set; for "zero" it is not read.
    """
    missing = np.isnan(signals)
    if not missing.any():
        return signals
    means_of = np.zeros(signals.shape[2]) if rule == "zero" else np.asarray(fill)
    out: NDArray[np.float32] = np.where(missing, means_of, signals).astype(np.float32)
    if rule == "interpolate":
        steps = np.arange(signals.shape[1])
        for i, d in np.argwhere(missing.any(axis=1) & ~missing.all(axis=1)):
            gaps = missing[i, :, d]
            there = ~gaps
            out[i, gaps, d] = np.interp(steps[gaps], steps[there], signals[i, there, d])
    return out
