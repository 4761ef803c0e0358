"""``python -m benchmarks.ragged``: clips of any length against clips of one, and packed sequences.

A pass over 256 clips of 16 features, in batches of 16 with similar lengths: 250 to 750 steps, drawn
evenly. The same number of steps in clips of one length is the measure; PyTorch takes the batches as
packed sequences. Results go to ragged.json and into docs/speed.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnjit import Ragged
from nnjit.layers import Signal

from . import small
from .__main__ import sides
from .nnjit_side import CELLS

N_CLIPS, BATCH, N_FEATURES, SHORTEST, LONGEST = 256, 16, 16, 250, 750


def data() -> tuple[Ragged, Ragged]:
    """Return clips of any length, and clips of one length with as many steps in all."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(SHORTEST, LONGEST + 1, N_CLIPS)
    equal = round(float(lengths.mean()))
    return tuple(
        Ragged.of([rng.normal(size=(n, N_FEATURES)).astype(np.float32) for n in some])
        for some in (lengths, [equal] * N_CLIPS)
    )


def batches(clips: Ragged) -> list[np.ndarray]:
    """Return the clips of each batch, the longest first, as packed sequences want them."""
    rng = np.random.default_rng(1)
    order = clips.in_batches(rng.permutation(N_CLIPS), BATCH, rng).reshape(-1, BATCH)
    return [rows[np.argsort(-clips.lengths[rows], kind="stable")] for rows in order]


def nnjit_call(cell: str, H: int, training: bool, equal: bool) -> Callable[[], None]:
    """Return what runs nnjit's layer over the set."""
    clips = data()[equal]
    steps = int(clips.lengths[0]) if equal else None
    layer = CELLS[cell](H, return_sequences=True)
    layer.is_first = True
    layer.build(Signal(steps, N_FEATURES), np.random.default_rng(0), np.dtype(np.float32))
    made = []
    for rows in batches(clips):
        x, lengths = clips.gathered(rows)
        dy = np.ones((len(x), x.shape[1], H, x.shape[3]), np.float32)
        made.append((x, None if equal else lengths, dy))

    def run() -> None:
        for x, lengths, dy in made:
            _, residuals = layer.forward(x, training=training, lengths=lengths)
            if training:
                layer.backward(dy, residuals)

    return run


def torch_call(cell: str, H: int, training: bool, equal: bool) -> Callable[[], None]:
    """Return what runs PyTorch's layer over the set."""
    import torch
    from torch.nn.utils.rnn import pack_sequence

    from .torch_side import CELLS

    clips, layer = data()[equal], CELLS[cell](N_FEATURES, H)
    made: list[tuple[Any, Any]] = []
    for rows in batches(clips):
        whole = [torch.from_numpy(clips[i]) for i in rows]
        x = torch.stack(whole, dim=1) if equal else pack_sequence(whole)
        n = x.shape[:2] if equal else x.data.shape[:1]
        made.append((x, torch.ones(*n, H)))

    def run() -> None:
        for x, dy in made:
            if not training:
                with torch.inference_mode():
                    layer(x)
                continue
            layer.zero_grad()
            y = layer(x)[0]
            (y if equal else y.data).backward(dy)

    return run


CALLS = {"nnjit": nnjit_call, "torch": torch_call}


def main() -> None:
    options, installed = small.parser("ragged", __doc__).parse_args(), sides()
    chosen = [side for side in CALLS if side in installed]

    def calls(cell: str, H: int, training: bool) -> small.Calls:
        return {
            side + ("_equal" if equal else ""): (
                lambda s=side, e=equal: CALLS[s](cell, H, training, e)
            )
            for side in chosen
            for equal in (False, True)
        }

    tasks = (
        (f"{cell} H={H} {mode}", calls(cell, H, mode == "training"))
        for mode in ("training", "inference")
        for cell in CELLS
        for H in map(int, options.sizes.split(","))
    )
    small.run("ragged", options, {n: installed[n].version() for n in chosen}, tasks)


if __name__ == "__main__":
    main()
