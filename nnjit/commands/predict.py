"""``python -m nnjit.predict``: classifies recordings with a trained model."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, DataError, SkippedFileWarning
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.places import given_path
from ..runtime.text import say
from .arguments import key_values, store_options

USAGE = """\
Classify recordings with a trained model.

  python -m nnjit.predict run=latest audio=song.ogg
  python -m nnjit.predict run=<id> audio=music/ more.wav
  python -m nnjit.predict model=model.pkl audio=song.ogg

run=     id of a run or its first digits, or latest (the default): the newest finished one
model=   a model file instead of a run
audio=   a recording, or a folder of them; more may follow
root=    folder of the store (default: runs)
uri=     address of another store
"""
_KEYS = ("run", "model", "audio", "root", "uri")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return
    with one_line_errors(), one_line_warnings():
        options, audio = parse(arguments)
        name, classifier = _load(options)
        recordings = _recordings(audio)
        reads = classifier.encoding.describe()
        say(f"model  {name}: {', '.join(classifier.classes)}; reads {reads}")
        n_read = sum(_predict(classifier, path, len(recordings) > 1) for path in recordings)
        if not n_read:
            raise DataError(f"none of the {len(recordings)} recordings could be read")


def parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options by name and the recordings; ConfigError for unknown options."""
    options: dict[str, str] = {}
    audio: list[str] = []
    for key, value in key_values(arguments, _KEYS, others=True):
        if key in ("", "audio"):
            audio += [value] * bool(value)
        else:
            options[key] = value
    if "run" in options and "model" in options:
        raise ConfigError("two models: give either run= or model=")
    if not audio:
        raise ConfigError("there is no recording: add audio=FILE_OR_FOLDER")
    return options, audio


def _load(options: dict[str, str]):  # type: ignore[no-untyped-def]
    from ..classifier import Classifier

    if "model" in options:
        return options["model"], Classifier.load(given_path(options["model"]))
    from ..tracking.store import Store

    store = Store.existing(store_options(options))
    run = store.run(options.get("run", "latest"))
    return f"run {run.id}", Classifier.load(store.model_file(run.id))


def _recordings(audio: Sequence[str]) -> list[Path]:
    from ..datasets.listing import find_recordings

    recordings: list[Path] = []
    for name in audio:
        path = given_path(name)
        if not path.exists():
            raise DataError(f"audio={name} does not exist")
        inside = [r.source for r in find_recordings(path, 0, path)] if path.is_dir() else [path]
        if not inside:
            raise DataError(f"audio={name} holds no recordings")
        recordings += [source for source in inside if isinstance(source, Path)]
    return recordings


def _predict(classifier, path: Path, skip: bool) -> bool:  # type: ignore[no-untyped-def]
    """Print the predictions for the clips and for the file; tell whether the file was read."""
    import warnings

    from ..datasets.kinds import conversion

    try:
        prediction = classifier.predict_file(path)
    except DataError as error:
        if not skip:
            raise
        warnings.warn(str(error), SkippedFileWarning, stacklevel=2)
        return False
    names = list(classifier.classes)
    width = max(map(len, prediction.ids))
    for clip, label, p in zip(
        prediction.ids, prediction.predictions, prediction.probabilities, strict=True
    ):
        say(f"{clip:<{width}}  {names[label]}  [{' '.join(f'{value:.4f}' for value in p)}]")
    verdict, mean = prediction.verdict, prediction.probabilities.mean(axis=0)
    fraction = (prediction.predictions == verdict).mean()
    converted = conversion(path, classifier.encoding)
    say(
        f"{path}: {names[verdict]}, mean probability {mean[verdict]:.4f}, "
        f"{fraction:.0%} of {len(prediction.ids)} clips"
        + f", converted from {converted}" * bool(converted)
        + "\n"
    )
    return True
