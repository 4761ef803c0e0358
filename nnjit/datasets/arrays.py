"""Data sets of examples: files of arrays and tables, and scikit-learn's digits."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..layers.spec import Signal
from ..lazy import LazyClips
from ..ragged import Data, Ragged
from ..runtime.places import given_path
from . import copies
from .array_files import Examples, in_order, read_examples, read_labels
from .clips import Clips
from .encode import are_statistics, check_choice
from .inputs import EXAMPLES, InputEncoding, Words
from .labelled import LabelledData
from .missing import LEARNED, MISSING, filled, means
from .names import Name
from .raw import by_training, standardised, statistics

NORMALISE = ("training", "example", "none")
_AT_ONCE = 1024  # examples that are predicted together


@final
@dataclass(frozen=True)
class ArrayEncoding(InputEncoding):
    """How examples become signals; it travels with a trained model.

    Parameters
    ----------
    n_steps, n_features : int or None, int
        T and D of each example; T is None where examples have any number of steps.
    normalise : {"training", "example", "none"}
        Whose statistics give each feature mean 0 and standard deviation 1.
    target, group : str
        What is no value in a file, see `read_examples`.
    mean, std : tuple of float
        Statistics of the training set, of each feature; empty until they are known.
    missing : {"error", "zero", "mean", "interpolate"}
        What becomes of missing values, see `nnjit.datasets.missing.filled`; "error" refuses them.
        They are filled before values are normalised.
    fill : tuple of float
        Means of the training set by which they are filled; empty until they are known.

    Raises
    ------
    ConfigError
        If a value is out of range or unknown.
    """

    words: ClassVar[Words] = EXAMPLES

    n_steps: int | None
    n_features: int
    normalise: str = "training"
    target: str = "y"
    group: str = "group"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    missing: str = "error"
    fill: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice("dataset.normalise", self.normalise, NORMALISE)
        check_choice("dataset.missing", self.missing, MISSING)
        for name in ("mean", "std", "fill"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.fill and not (
            self.missing in LEARNED
            and are_statistics(self.fill, (1.0,) * len(self.fill), self.n_features)
        ):
            raise ConfigError(
                f"fill={self.fill} does not fit missing={self.missing} and {self.n_features} "
                "features"
            )
        if (self.mean or self.std) and not (
            self.normalise == "training" and are_statistics(self.mean, self.std, self.n_features)
        ):
            raise ConfigError(
                f"mean={self.mean} and std={self.std} do not fit {self.n_features} features"
            )

    @property
    def inputs(self) -> Signal:
        """Signals (N, T, D)."""
        return Signal(self.n_steps, self.n_features)

    @property
    def step_in_figures(self) -> tuple[float, str]:
        """Steps are counted."""
        return 1.0, "steps"

    def describe(self) -> str:
        """Return what an example is, in a few words."""
        steps = f"{self.n_steps} steps" if self.n_steps else "steps"
        rule = "" if self.missing == "error" else f", missing values by {self.missing}"
        return f"{steps} of {self.n_features} value(s), normalised by {self.normalise}{rule}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def encode(self, x: Data) -> Data:
        """Turn values (N, T, D), or of any T, into what the model reads, float32.

        Where statistics of the training set are asked for but not known yet, values stay as they
        are. A feature of an example that is constant becomes 0.
        """
        if isinstance(x, Ragged):
            return x.map(lambda example: self._encode(example[None])[0])
        return self._encode(x)

    def _encode(self, x: NDArray[Any]) -> NDArray[np.float32]:
        signals = np.ascontiguousarray(x, np.float32)
        if self.missing in LEARNED and not self.fill:
            return signals
        signals = filled(signals, self.missing, self.fill)
        if self.mean:
            return standardised(signals, self.mean, self.std)
        if self.normalise == "example":
            signals = np.stack(
                [standardised(s[None], *statistics(s[None], self.n_features))[0] for s in signals]
            )
        return signals


def stream_examples(path: str | Path, encoding: ArrayEncoding) -> Iterator[tuple[Data, list[str]]]:
    """Encode the examples of a file for prediction, exactly as in training, some at a time.

    Yields
    ------
    signals : array of float32, shape (n, T, D), or Ragged
    ids : list of str
        Names of the examples.

    Raises
    ------
    DataError
        As `read_examples`, and where the shape is not that of training.
    """
    x = read_examples(Path(path), encoding.target, encoding.group, encoding.missing != "error").x
    n_steps, n_features = _shape(x)
    if n_features != encoding.n_features or encoding.n_steps not in (None, n_steps):
        raise DataError(
            f"{path} has examples of {_told(x)}: the model reads "
            f"{encoding.n_steps or 'any number'} of {encoding.n_features}"
        )
    for at in range(0, len(x), _AT_ONCE):
        part = encoding.encode(x[at : at + _AT_ONCE])
        yield part, [f"{Path(path).name}[{at + i}]" for i in range(len(part))]


def _shape(x: Data) -> tuple[int | None, int]:
    """Return T, None where it varies, and D of examples."""
    if isinstance(x, Ragged):
        return None, int(x.values.shape[1])
    return int(x.shape[1]), int(x.shape[2])


def _told(x: Data) -> str:
    """Return the shape of examples as messages tell it."""
    n_steps, n_features = _shape(x)
    steps = f"{x.lengths.min()} to {x.lengths.max()}" if isinstance(x, Ragged) else n_steps
    return f"{steps} steps of {n_features} value(s)"


class ArrayData(LabelledData):
    """Examples of one number of features. A subclass says its `name` and its `examples`.

    Where all have the same number of steps, the model reads that; else it reads any.

    Parameters
    ----------
    normalise
        See `ArrayEncoding`.
    **options
        Options of `LabelledData`. A track is a group where the examples have groups; else each
        example is one, and equal examples are one together.
    """

    words: ClassVar[Words] = EXAMPLES

    def __init__(self, *, normalise: str = "training", **options: Any) -> None:
        super().__init__(**options)
        check_choice("dataset.normalise", normalise, NORMALISE)
        self.normalise = normalise
        self._classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label, in order; known once the examples are read."""
        return self._classes

    @abstractmethod
    def examples(self) -> Examples:
        """Return all examples with their classes."""

    def _encoding(self, n_steps: int | None, n_features: int) -> ArrayEncoding:
        return ArrayEncoding(n_steps, n_features, self.normalise)

    def pool(self) -> tuple[Clips, ArrayEncoding]:
        """Return all examples as clips."""
        x, y, group = self.examples()
        assert y is not None
        self._classes = in_order(y)
        encoding = self._encoding(*_shape(x))
        signals = encoding.encode(x)
        labels = np.searchsorted(np.array(sorted(self._classes)), np.array(y))
        order = [self._classes.index(name) for name in sorted(self._classes)]
        labels = np.array(order, np.int64)[labels]
        ids = [f"{self.name}[{i}]" for i in range(len(x))]
        clips = Clips(
            signals,
            labels,
            tuple(ids),
            tuple(tracks_of(signals, ids, y, group)),
            np.full(len(x), np.nan),
        )
        self._check_classes(clips, "check its labels")
        return clips, encoding

    def adapt(
        self, pool: Clips, train: NDArray[np.int64], encoding: InputEncoding
    ) -> tuple[Clips, InputEncoding]:
        """Fill and normalise by the statistics of the training set, where that was asked for."""
        assert isinstance(encoding, ArrayEncoding)
        signals = pool.codes
        if encoding.missing in LEARNED:
            assert not isinstance(signals, LazyClips)  # arrays are read into memory
            known = signals[train]
            values = known.values if isinstance(known, Ragged) else known
            encoding = replace(encoding, fill=means(values))
            signals = encoding.encode(signals)
        if encoding.normalise == "training":
            signals, mean, std = by_training(signals, train, encoding.n_features)
            encoding = replace(encoding, mean=mean, std=std)
        return replace(pool, codes=signals), encoding


def tracks_of(
    clips: Data, ids: list[str], classes: list[str], group: list[str] | None
) -> list[str]:
    """Return the track of each example: its group or itself, and one for equal examples.

    Warns
    -----
    UserWarning
        Of equal examples.
    """
    same = copies.find(list(clips))
    for line in copies.tell(list(zip(ids, classes, strict=True)), same, EXAMPLES):
        warnings.warn(line, stacklevel=4)
    return copies.join(ids if group is None else group, same)


def _joined(first: Data, second: Data) -> Data:
    if isinstance(first, Ragged) or isinstance(second, Ragged):
        return Ragged.of([*first, *second])
    return np.concatenate([first, second])


@final
class Arrays(ArrayData):
    """Examples from a file of arrays, a table, or series of an archive; see `read_examples`.

    Parameters
    ----------
    root : str or Path
        The file.
    target, group : str
        What holds the classes and the groups in .npz, .csv and .parquet.
    missing : {"error", "zero", "mean", "interpolate"}
        What becomes of missing values, see `ArrayEncoding`.
    labels : str, Path or None
        A .npy file of classes (N,), for a `root` that holds none.
    test : str, Path or None
        A file with the test set, as archives have one. The examples of `root` are then dealt to the
        training and validation set alone, and the third of `sizes` does not count.
    **options
        Options of `ArrayData`.
    """

    name: ClassVar[str] = "arrays"

    def __init__(
        self,
        root: Path | Name,
        target: str = "y",
        group: str = "group",
        missing: str = "error",
        labels: str | Path | None = None,
        test: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("dataset.missing", missing, MISSING)
        self.missing = missing
        self.test = None if test is None else given_path(test)
        if test is not None and self.n_clips is not None:
            raise ConfigError(
                f"dataset.n_clips={self.n_clips} does not go with dataset.test, whose examples "
                "are all used: set dataset.n_clips=null"
            )
        if test is not None and labels is not None:
            raise ConfigError(
                f"dataset.labels={labels} are of one file, dataset.test={test} is another: "
                "save each with its classes, as .npz"
            )
        self.root = given_path(str(root))
        self.target, self.group = target, group
        self.labels = None if labels is None else given_path(labels)
        self._n_before_test = 0

    def _encoding(self, n_steps: int | None, n_features: int) -> ArrayEncoding:
        found = ArrayEncoding(n_steps, n_features, self.normalise, self.target, self.group)
        return replace(found, missing=self.missing)

    def examples(self) -> Examples:
        """Read the file, and behind its examples those of the test set.

        Raises
        ------
        DataError
            As `read_examples`, and where there are no classes.
        """
        found = self._read(self.root)
        if self.labels is not None:
            found = found._replace(y=read_labels(self.labels))
        if found.y is None:
            raise DataError(
                f"{self.root} tells no classes ({self.target}): set dataset.target to the name "
                "of what holds them, or dataset.labels to a .npy file"
            )
        if len(found.y) != len(found.x):
            raise DataError(
                f"{self.labels} holds {len(found.y)} classes for {len(found.x)} examples: "
                "give each one"
            )
        self._n_before_test = len(found.x)
        return found if self.test is None else self._with_test(found, self.test)

    def _read(self, path: Path) -> Examples:
        return read_examples(path, self.target, self.group, self.missing != "error")

    def _with_test(self, found: Examples, path: Path) -> Examples:
        test = self._read(path)
        (T, D), (T_test, D_test) = _shape(found.x), _shape(test.x)
        if D_test != D or (T_test != T and None not in (T, T_test)):
            raise DataError(
                f"dataset.test={path} has examples of {_told(test.x)}, {self.root} of "
                f"{_told(found.x)}: give files of one data set"
            )
        if test.y is None or (test.group is None) != (found.group is None):
            raise DataError(f"dataset.test={path} lacks classes or groups that {self.root} has")
        unknown = sorted(set(test.y) - set(found.y or ()))
        if unknown:
            raise DataError(
                f"dataset.test={path} has the class {unknown[0]!r}, which {self.root} lacks: give "
                "files of one data set"
            )
        return Examples(
            _joined(found.x, test.x),
            [*(found.y or ()), *test.y],
            None if found.group is None or test.group is None else [*found.group, *test.group],
        )

    def deal(
        self, pool: Clips, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of the sets; those of the test set are known where it is a file."""
        if self.test is None:
            return super().deal(pool, rng)
        places = np.array([int(name.split("[")[1][:-1]) for name in pool.files])
        known = np.flatnonzero(places < self._n_before_test)
        train, val, _ = self._split(pool.take(known), (*self.sizes[:2], 0), rng)
        return known[train], known[val], np.flatnonzero(places >= self._n_before_test)

    def _asked(self) -> tuple[float, ...]:
        return super()._asked() if self.test is None else ()


@final
class Digits(ArrayData):
    """The 1,797 handwritten digits of scikit-learn, 8 by 8 pixels from 0 to 16.

    Parameters
    ----------
    by : {"row", "pixel"}
        A step is a row of 8 pixels (T = 8), or one pixel (T = 64).
    **options
        Options of `ArrayData`.

    References
    ----------
    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998: its test set.
    """

    name: ClassVar[str] = "digits"

    def __init__(self, by: str = "row", **options: Any) -> None:
        super().__init__(**options)
        check_choice("dataset.by", by, ("row", "pixel"))
        self.by = by

    def examples(self) -> Examples:
        """Return the digits."""
        from sklearn.datasets import load_digits

        found = load_digits()
        images = (
            found.images if self.by == "row" else found.images.reshape(len(found.images), -1, 1)
        )
        return Examples(images, [str(k) for k in found.target.tolist()], None)
