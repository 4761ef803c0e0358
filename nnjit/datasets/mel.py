"""The power of a signal in bands of the mel scale, in decibels, by librosa."""

import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .encode import Encoding


def log_mel(clips: NDArray[np.float32], encoding: Encoding) -> NDArray[np.float32]:
    """Return the mel bands of clips, each clip by itself.

    The periodic Hann window has `encoding.frame` samples, and lies wholly inside the clip. Bands
    are those of `librosa.filters.mel`: triangles of equal area on Slaney's scale. A power below
    1e-10 counts as 1e-10, -100 dB.

    Parameters
    ----------
    clips : array of float32, shape (n, samples, channels)
        Samples, nominally in [-1, 1].
    encoding : Encoding
        Its rate is a number.

    Returns
    -------
    array of float32, shape (n, T, n_mels * channels)
        Decibels; for each band, all channels.

    Raises
    ------
    ConfigError
        If librosa is not installed, or a band holds no frequency of the window.

    References
    ----------
    Slaney, "Auditory Toolbox: A MATLAB Toolbox for Auditory Modeling Work", Interval Research
    technical report 1998-010, 1998.
    """
    librosa, bank = _librosa(), _filters(encoding)
    n_steps = (clips.shape[1] - encoding.frame) // encoding.step + 1
    out = np.empty((len(clips), n_steps, encoding.n_mels, clips.shape[2]), np.float32)
    for clip, found in zip(clips, out, strict=True):
        spectra = librosa.stft(
            clip.T.astype(np.float64), n_fft=encoding.frame, hop_length=encoding.step, center=False
        )
        for c, power in enumerate(np.square(spectra.real) + np.square(spectra.imag)):
            # A sparse product adds in one order; that of a dense one depends on the threads.
            found[:, :, c] = librosa.power_to_db(bank @ power, amin=1e-10, top_db=None).T
    return out.reshape(len(out), n_steps, -1)


def versions() -> list[str]:
    """Return the versions of what computes the bands."""
    _librosa()
    return [version(name) for name in ("librosa", "scipy")]


def _librosa() -> Any:
    try:
        import librosa
    except ImportError:
        raise ConfigError(
            "dataset.encoding=log_mel needs librosa: pip install 'nnjit[mel]'"
        ) from None
    return librosa


@cache
def _filters(encoding: Encoding) -> Any:
    """Return the filter bank, a sparse array (n_mels, frame // 2 + 1)."""
    from scipy import sparse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of empty bands, which are told below
        bank = _librosa().filters.mel(
            sr=encoding.rate,
            n_fft=encoding.frame,
            n_mels=encoding.n_mels,
            fmin=encoding.fmin,
            fmax=encoding.fmax,
            dtype=np.float64,
        )
    if empty := int((bank.max(axis=1) == 0).sum()):
        raise ConfigError(
            f"{empty} of dataset.n_mels={encoding.n_mels} bands hold no frequency of a window of "
            f"dataset.frame={encoding.frame} samples at {encoding.rate:g} Hz: lower n_mels or "
            "raise frame"
        )
    return sparse.csr_array(bank)
