"""Where things are: folders of any name, moved, read-only, named with ~, or changed by a job."""

import pytest
from commands import PREDICT, RUN, SMALL, python, runs, succeeded

COMPARE, UI = ("-m", "nnjit.compare"), ("-m", "nnjit.ui")
SHORT = (*SMALL, "trainer.epochs=1", "dataset.cache_dir=null")


def tone(folder):
    """Write a short recording."""
    import numpy as np
    import soundfile

    path = folder / "tone.wav"
    soundfile.write(path, np.sin(np.arange(2000) / 5), 8000)
    return path


@pytest.mark.parametrize("name", ["what? x%20y #1&2;3", 'it\'s "[é]" @a:b {音}', "long" * 50])
def test_folders_of_any_name(name, tmp_path):
    place = tmp_path / name
    place.mkdir()
    succeeded(python(*RUN, *SHORT, cwd=place))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in place.iterdir()] == ["runs"]
    (run,) = runs(place)
    audio = f"audio={tone(tmp_path)}"
    lines = succeeded(python(*PREDICT, audio, f"root={place / 'runs'}", cwd=tmp_path))
    assert run.info.run_id in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "tone.wav"])
