"""Strings of symbols, such as DNA; the vocabulary is that of the training set."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, SkippedFileWarning
from ..layers.spec import Codes
from ..ragged import AnyData, Data, Ragged
from ..runtime import memory
from . import copies
from .clips import Clips
from .encode import check_integer
from .inputs import STRINGS, InputEncoding, Words
from .labelled import LabelledData
from .names import Name, root_folder
from .reader import open_regular

FASTA = (".fasta", ".fa", ".fna", ".faa")
ENDINGS = (".txt", *FASTA)
_MOST_SYMBOLS = 255  # codes are bytes, and 0 stands for symbols that training has not seen
_BYTES = 16  # of memory for a byte of a file, at most
_AT_ONCE = 1024  # pieces that are predicted together


class Text(NamedTuple):
    """A string and what messages call it."""

    name: str
    text: str


@final
@dataclass(frozen=True)
class TextEncoding(InputEncoding):
    """How strings become codes; it travels with a trained model.

    Parameters
    ----------
    n_steps : int or None
        Symbols T of each piece; None where strings are taken whole, of any length.
    vocabulary : str
        The symbols of the training set; the first has code 1. Code 0 is every other symbol.
    cut : bool
        Strings are cut into pieces of T symbols; False takes only strings of T symbols.

    Raises
    ------
    ConfigError
        If the vocabulary has a symbol twice, or too many.
    """

    words: ClassVar[Words] = STRINGS

    n_steps: int | None
    vocabulary: str = ""
    cut: bool = False

    def __post_init__(self) -> None:
        if self.n_steps is not None:
            check_integer("dataset.length", self.n_steps, low=1)
        if len(set(self.vocabulary)) < len(self.vocabulary):
            raise ConfigError(f"the vocabulary {self.vocabulary[:40]!r} has a symbol twice")
        if len(self.vocabulary) > _MOST_SYMBOLS:
            raise ConfigError(
                f"the training set has {len(self.vocabulary)} symbols, and a model reads at most "
                f"{_MOST_SYMBOLS}: write them with fewer"
            )

    @property
    def inputs(self) -> Codes:
        """Codes (N, T), one for each symbol and 0 for those that are not known."""
        return Codes(self.n_steps, max(2, len(self.vocabulary) + 1))

    @property
    def step_in_figures(self) -> tuple[float, str]:
        """Symbols are counted."""
        return 1.0, "symbols"

    def describe(self) -> str:
        """Return what a piece is, in a few words."""
        symbols = f"{self.n_steps} symbols" if self.n_steps else "symbols"
        return f"{symbols} of {len(self.vocabulary)} ({self.vocabulary[:40]})"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values."""
        return asdict(self)

    def encode(self, points: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Turn code points of Unicode, of any shape, into codes of the same shape."""
        known = _points(self.vocabulary)
        if not len(known):
            return np.zeros(points.shape, np.uint8)
        order = np.argsort(known)
        at = np.minimum(np.searchsorted(known[order], points), len(known) - 1)
        codes: NDArray[np.uint8] = np.where(known[order][at] == points, order[at] + 1, 0).astype(
            np.uint8
        )
        return codes


def read_texts(path: Path) -> list[Text]:
    """Read a string a line (``.txt``), or the sequences of FASTA (``.fasta``, ``.fa`` ...).

    Raises
    ------
    DataError
        If it cannot be read, or holds no strings.
    """
    try:
        with open_regular(path) as file:
            limit, size = memory.total(), path.stat().st_size
            if limit is not None and size > limit // _BYTES:
                raise DataError(f"holds {size / 1e9:,.1f} GB, too much for this machine: cut it")
            content = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except DataError as error:
        text = str(error).replace("cannot be read as audio", "cannot be read")
        raise DataError(f"{path} {text}") from None
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    fasta = path.suffix.lower() in FASTA
    found = _fasta(lines, path) if fasta else [(str(i), s) for i, s in enumerate(lines, 1)]
    texts = [Text(f"{path.name}:{name}", text) for name, text in found if text]
    if not texts:
        raise DataError(f"{path} holds no strings: add some")
    return texts


def _fasta(lines: list[str], path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, list[str]]] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(">"):
            found.append(((line[1:].split() or [str(len(found))])[0], []))
        elif line and not line.startswith(";"):
            if not found:
                raise DataError(f"{path} has a sequence before any '>' in line {number}: name it")
            found[-1][1].append(line)
    return [(name, "".join(parts)) for name, parts in found]


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _pieces(text: Text, n_steps: int | None) -> tuple[NDArray[np.uint32], list[str]]:
    """Return the pieces (n, T) of a string and their names; a remainder is dropped."""
    points = _points(text.text)
    if n_steps is None:
        return points[None], [text.name]
    n = len(points) // n_steps
    names = [
        text.name if len(points) == n_steps else f"{text.name}@{i * n_steps}" for i in range(n)
    ]
    return points[: n * n_steps].reshape(n, n_steps), names


def stream_texts(path: str | Path, encoding: TextEncoding) -> Iterator[tuple[Data, list[str]]]:
    """Encode the strings of a file for prediction, exactly as in training, some at a time.

    Yields
    ------
    codes : array of uint8, shape (n, T), or Ragged
    ids : list of str
        Names of the pieces.

    Raises
    ------
    DataError
        As `read_texts`, and for strings of a length that the model does not read.
    """
    texts, T = read_texts(Path(path)), encoding.n_steps
    if T is None:
        for at in range(0, len(texts), _AT_ONCE):
            some = texts[at : at + _AT_ONCE]
            codes = Ragged.of([encoding.encode(_points(text.text)) for text in some])
            yield codes, [text.name for text in some]
        return
    wrong = [t for t in texts if (len(t.text) < T if encoding.cut else len(t.text) != T)]
    if wrong and (not encoding.cut or len(wrong) == len(texts)):
        raise DataError(
            f"{path} has a string of {len(wrong[0].text)} symbols ({wrong[0].name}): the model "
            f"reads {'pieces of ' * encoding.cut}{T}"
        )
    _warn_short(len(wrong), T)
    for text in texts:
        points, names = _pieces(text, T)
        for at in range(0, len(points), _AT_ONCE):
            yield encoding.encode(points[at : at + _AT_ONCE]), names[at : at + _AT_ONCE]


def _warn_short(count: int, n_steps: int | None) -> None:
    if count:
        warnings.warn(
            f"{count} string(s) of fewer than {n_steps} symbols are left out",
            SkippedFileWarning,
            stacklevel=3,
        )


@final
class Strings(LabelledData):
    """Strings in files, a file for each class: ``.txt`` with a string a line, or FASTA.

    Symbols get their codes from the training set alone; what only other sets have is code 0.

    Parameters
    ----------
    root : str or Path
        Folder with a file for each class; labels follow the alphabet of their names.
    length : int or None
        Strings are cut into pieces of so many symbols, and all pieces of a string are of one
        track. None takes each string whole; where not all are of one length, models read any.
    **options
        Options of `LabelledData`.

    Raises
    ------
    DataError
        If there are not two files or more, or as `read_texts`.
    """

    name: ClassVar[str] = "strings"
    words: ClassVar[Words] = STRINGS

    def __init__(self, root: Path | Name, length: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if length is not None:
            check_integer("dataset.length", length, low=1)
        self.root, self.length = root_folder(root), length
        self._classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label, the name of its file; known once the strings are read."""
        return self._classes

    def pool(self) -> tuple[Clips, TextEncoding]:
        """Return all pieces as clips, whose codes are still code points of Unicode."""
        files = self._files()
        self._classes = tuple(path.stem for path in files)
        texts, labels = [], []
        for label, path in enumerate(files):
            found = read_texts(path)
            texts += found
            labels += [label] * len(found)
        n_steps = self.length or _common_length(texts)
        long = [i for i, text in enumerate(texts) if len(text.text) >= (n_steps or 1)]
        _warn_short(len(texts) - len(long), n_steps)
        if not long:
            raise DataError(
                f"no string of {self.root} has {n_steps} symbols: lower dataset.length={n_steps}"
            )
        pieces, names = zip(*(_pieces(texts[i], n_steps) for i in long), strict=True)
        same = copies.find(pieces)
        told = [(texts[i].name, self._classes[labels[i]]) for i in long]
        for line in copies.tell(told, same, STRINGS):
            warnings.warn(line, stacklevel=3)
        tracks = copies.join([f"{texts[i].name}#{i}" for i in long], same)
        counts = list(map(len, pieces))
        clips = Clips(
            np.concatenate(pieces) if n_steps else Ragged.of([text for (text,) in pieces]),
            np.repeat(np.array([labels[i] for i in long], np.int64), counts),
            tuple(name for each in names for name in each),
            tuple(track for track, n in zip(tracks, counts, strict=True) for _ in range(n)),
            np.full(sum(counts), math.nan),
        )
        self._check_classes(clips, "lower dataset.length or add longer strings")
        return clips, TextEncoding(n_steps, cut=self.length is not None)

    def adapt(
        self, pool: Clips, train: NDArray[np.int64], encoding: InputEncoding
    ) -> tuple[Clips, InputEncoding]:
        """Give the symbols of the training set their codes."""
        assert isinstance(encoding, TextEncoding)
        symbols = np.unique(_flat(pool.codes[train])).astype("<u4").tobytes()
        learned = replace(encoding, vocabulary=symbols.decode("utf-32-le"))
        points = _flat(pool.codes).astype(np.uint32, copy=False)
        codes = learned.encode(points)
        if unseen := np.unique(points[codes == 0]).tolist():
            shown = ", ".join(repr(chr(point)) for point in unseen[:9])
            warnings.warn(
                f"{len(unseen)} symbol(s) are not in the training set, and are one to the model, "
                f"code 0: {shown}",
                stacklevel=4,
            )
        if isinstance(pool.codes, Ragged):
            return replace(pool, codes=Ragged(codes, pool.codes.lengths)), learned
        return replace(pool, codes=codes), learned

    def _files(self) -> list[Path]:
        try:
            files = sorted(p for p in self.root.iterdir() if p.suffix.lower() in ENDINGS)
        except OSError as error:
            raise DataError(
                f"dataset.root={self.root} cannot be read ({error.strerror}): name a folder"
            ) from None
        if len(files) < 2 or len({path.stem for path in files}) < len(files):
            raise DataError(
                f"dataset.root={self.root} holds {len(files)} file(s) ({', '.join(ENDINGS)}): put "
                "the strings of each class in one of its own, of another name, two or more"
            )
        return files


def _common_length(texts: list[Text]) -> int | None:
    lengths = {len(text.text) for text in texts}
    return lengths.pop() if len(lengths) == 1 else None


def _flat(codes: AnyData) -> NDArray[Any]:
    return codes.values if isinstance(codes, Ragged) else np.asarray(codes)
