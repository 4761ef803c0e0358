"""``python -m nnjit.predict``: classifies recordings and other inputs with a trained model."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, DataError, SkippedFileWarning
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.places import given_path
from ..runtime.text import count, say
from .arguments import key_values, store_options

USAGE = """\
Classify recordings, examples of arrays and tables, or strings with a trained model.

  python -m nnjit.predict run=latest audio=song.ogg
  python -m nnjit.predict run=<id> audio=music/ more.wav
  python -m nnjit.predict model=model.pkl audio=song.ogg
  python -m nnjit.predict run=latest input=sensors.npz

run=     id of a run or its first digits, or latest (the default): the newest finished one
model=   a model file instead of a run
audio=   a recording, or a folder of them; more may follow
input=   the same for any kind of file that the model was trained on
root=    folder of the store (default: runs)
uri=     address of another store
"""
_INPUTS = ("", "audio", "input")
_KEYS = ("run", "model", *_INPUTS[1:], "root", "uri")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return
    with one_line_errors(), one_line_warnings():
        options, named = parse(arguments)
        name, classifier = _load(options)
        files = _files(named, classifier.encoding)
        reads = classifier.encoding.describe()
        say(f"model  {name}: {', '.join(classifier.classes)}; reads {reads}")
        n_read = sum(_predict(classifier, path, len(files) > 1) for path in files)
        if not n_read:
            raise DataError(f"none of the {len(files)} files could be read")


def parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options by name and the files or folders; ConfigError for unknown options."""
    options: dict[str, str] = {}
    named: list[str] = []
    for key, value in key_values(arguments, _KEYS, others=True):
        if key in _INPUTS:
            named += [value] * bool(value)
        else:
            options[key] = value
    if "run" in options and "model" in options:
        raise ConfigError("two models: give either run= or model=")
    if not named:
        raise ConfigError("there is nothing to classify: add audio=FILE_OR_FOLDER, or input=")
    return options, named


def _load(options: dict[str, str]):  # type: ignore[no-untyped-def]
    from ..classifier import Classifier

    if "model" in options:
        return options["model"], Classifier.load(given_path(options["model"]))
    from ..tracking.store import Store

    store = Store.existing(store_options(options))
    run = store.run(options.get("run", "latest"))
    return f"run {run.id}", Classifier.load(store.model_file(run.id))


def _files(named: Sequence[str], encoding) -> list[Path]:  # type: ignore[no-untyped-def]
    from ..datasets import kinds

    files: list[Path] = []
    for name in named:
        path = given_path(name)
        if not path.exists():
            raise DataError(f"{name} does not exist: name a file or a folder")
        inside = kinds.files(path, encoding) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{name} holds no {encoding.words.source}s")
        files += inside
    return files


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
    converted = conversion(path, classifier.encoding)
    whole = _whole(prediction, names, classifier.encoding.words)
    say(f"{path}: {whole}" + f", converted from {converted}" * bool(converted) + "\n")
    return True


def _whole(prediction, names: Sequence[str], words) -> str:  # type: ignore[no-untyped-def]
    """Return the verdict on a file of one thing, or how many in a file are of each class."""
    n = count(len(prediction.ids), words.clip)
    if not words.of_one:
        counts = [int((prediction.predictions == k).sum()) for k in range(len(names))]
        each = ", ".join(f"{k} {name}" for k, name in zip(counts, names, strict=True) if k)
        return f"{n}, {each}"
    verdict, mean = prediction.verdict, prediction.probabilities.mean(axis=0)
    fraction = (prediction.predictions == verdict).mean()
    return f"{names[verdict]}, mean probability {mean[verdict]:.4f}, {fraction:.0%} of {n}"
