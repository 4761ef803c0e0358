"""Settings of back-propagation through time: gradient checkpoints and truncation."""

from dataclasses import dataclass
from typing import final

from ..errors import ConfigError
from ..parts import Part


@final
@dataclass(frozen=True)
class Bptt(Part):
    """Settings of back-propagation through time.

    Parameters
    ----------
    checkpoint
        "off" saves the gates of all steps. A number saves only the state every so many steps (in
        multiples of 128), and the backward pass computes the gates again (Chen et al. 2016): the
        same bits with a fraction of the memory. "auto" saves the gates where they are small, else
        it saves the state about every sqrt(T) steps.
    truncate
        Steps after which the gradient is cut, while the state passes on (Williams & Peng 1990);
        None never cuts.
    """

    checkpoint: str | int = "auto"
    truncate: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        number = isinstance(self.checkpoint, int) and self.checkpoint > 0
        if self.checkpoint not in ("auto", "off") and not number:
            raise ConfigError(
                f"checkpoint={self.checkpoint} must be auto, off or a number of steps"
            )
        if self.truncate is not None and self.truncate < 1:
            raise ConfigError(f"truncate={self.truncate} must be 1 step or more, or null")
