"""Cut the bundled excerpts out of the full recordings: python cut.py SOURCE [--output FOLDER]."""

import argparse
from pathlib import Path

import numpy as np
import soundfile

SECONDS = 32.05  # a little over 32, so that resampling still leaves 32 whole seconds
FLOOR_DB = -10.0  # quietest one-second window, relative to the RMS of the whole recording
HOP = 0.1  # seconds between the starts that are tried
COMPRESSION = 0.2  # 0 is the largest file, 1 the smallest
BLOCK = 65_536  # libsndfile can overflow its stack when it writes long Vorbis in one call


def steady_start(signal: np.ndarray, rate: int) -> int:
    """Find the first excerpt in which every one-second window is well above silence.

    Parameters
    ----------
    signal : array of shape (T,)
        The mono recording.
    rate : int
        Samples per second.

    Returns
    -------
    int
        Index of the first sample of the excerpt.

    Raises
    ------
    SystemExit
        If no stretch of the recording is steady enough.
    """
    hop = round(HOP * rate)
    windows = round(1 / HOP)
    power = (signal[: len(signal) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
    per_second = np.convolve(power, np.full(windows, 1 / windows), mode="valid")
    loud = per_second >= power.mean() * 10 ** (FLOOR_DB / 10)
    span = int(np.ceil(SECONDS / HOP)) - windows + 1
    steady = np.convolve(loud, np.ones(span), mode="valid") > span - 0.5
    if not steady.any():
        raise SystemExit(f"no {SECONDS} s without a second below {FLOOR_DB} dB")
    return int(steady.argmax()) * hop


def main() -> None:
    """Write one excerpt for every SOURCE/<author>/<title>.ogg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with one sub-folder per author")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    for path in sorted(options.source.glob("*/*.ogg")):
        signal, rate = soundfile.read(path, always_2d=True)
        signal = signal.mean(axis=1)
        start = steady_start(signal, rate)
        excerpt = signal[start : start + round(SECONDS * rate)]
        target = options.output / path.relative_to(options.source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(
            target, "w", rate, channels=1, format="OGG", subtype="VORBIS",
            compression_level=COMPRESSION,
        ) as file:  # fmt: skip
            for first in range(0, len(excerpt), BLOCK):
                file.write(excerpt[first : first + BLOCK])
        print(f"{target.name}: {start / rate:.2f} s to {(start + len(excerpt)) / rate:.2f} s")


if __name__ == "__main__":
    main()
