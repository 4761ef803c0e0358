"""Both sides of ``python -m benchmarks.ragged`` take the same batches."""

import numpy as np
import pytest

from benchmarks import ragged


def test_a_pass_takes_each_clip_once_and_similar_lengths_together() -> None:
    clips, equal = ragged.data()
    assert abs(int(clips.lengths.sum()) - int(equal.lengths.sum())) < len(clips)
    batches = ragged.batches(clips)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(clips)))
    padded = sum(len(rows) * int(clips.lengths[rows].max()) for rows in batches)
    assert padded < 1.1 * clips.lengths.sum()


@pytest.mark.parametrize("equal", [False, True])
def test_both_sides_run(equal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    for name, value in {"N_CLIPS": 32, "SHORTEST": 3, "LONGEST": 9}.items():
        monkeypatch.setattr(ragged, name, value)
    for make in (ragged.nnjit_call, ragged.torch_call):
        for training in (False, True):
            make("gru", 2, training, equal)()
