"""Results that a sweeper adds to the report of the current sweep.

Hydra creates sweeper and callback separately, so they share a module global.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final


@final
@dataclass
class Notes:
    """Lines to print, values and files for the record."""

    lines: list[str] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def add(self, lines: Sequence[str], values: dict[str, float], files: Sequence[Path]) -> None:
        """Add to all three."""
        self.lines += lines
        self.values |= values
        self.files += files


NOTES = Notes()
