"""The bundled data set: guitar recordings of two authors."""

from pathlib import Path
from typing import ClassVar

from .base import Dataset, Recording
from .listing import find_recordings

_ROOT = Path(__file__).parent / "data" / "guitar"


class Guitar(Dataset):
    """Eight excerpts of 32 s, part of the package, four by each author.

    Label 1, the "True author", is El Senator. data/guitar/README.md has authors, titles, licences
    and the cuts of the excerpts. Takes the options of `Dataset`.
    """

    name: ClassVar[str] = "guitar"

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        return ("carlos_viola", "el_senator")

    def sources(self) -> list[Recording]:
        """List the bundled recordings."""
        return [
            recording
            for label, author in enumerate(self.classes)
            for recording in find_recordings(_ROOT / author, label, _ROOT)
        ]
