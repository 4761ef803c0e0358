"""A cell that is in no library: trained from a user's file, then used where that file is gone."""

import pytest
from commands import PREDICT, RUN, SMALL, python, refused, runs, start, succeeded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy|alembic)")]

FILE = """
from nnjit.cells import cell, sigmoid, tanh


@cell(vectors={"p": 0.5}, biases={"f": 1.0})
def mine(x, h, c, W, w):
    f = sigmoid(x.f + h @ W.f + w.p * c)
    g = tanh(x.g + (f * h) @ W.g)
    o = sigmoid(x.o + h @ W.o)
    c = f * c + (1 - f) * g
    return o * tanh(c), c


def branch(x, h):
    return x.z if x.z > 0 else h
"""
OWN = (
    *(o for o in SMALL if not o.startswith("model=")),
    *("model=recurrent", "model.layers.0.cell=mycells.py:mine", "model.layers.0.hidden_size=3"),
    *("trainer.threads=1", "seed=5"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a finished run; the file of its cell is gone."""
    place = tmp_path_factory.mktemp("own")
    (place / "mycells.py").write_text(FILE)
    succeeded(python(*RUN, *OWN, cwd=place))
    (place / "mycells.py").unlink()
    return place


def test_the_record_holds_the_equations(trained):
    (run,) = runs(trained)
    assert "def mine(x, h, c, W, w)" in str(run.data.params)
    succeeded(python("-m", "nnjit.reproduce", "run=latest", cwd=trained))  # 0: the same bits


def test_its_model_judges_recordings(trained, tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 20_000), 1000)
    lines = succeeded(python(*PREDICT, "run=latest", f"audio={tmp_path / 'a.wav'}", cwd=trained))
    assert any("mean probability" in line for line in lines)


def test_a_file_that_was_changed_since_changes_nothing(trained):
    """The run keeps the equations that it was trained with."""
    (trained / "mycells.py").write_text(FILE.replace("f * c", "c"))
    try:
        succeeded(python("-m", "nnjit.reproduce", "run=latest", cwd=trained))
    finally:
        (trained / "mycells.py").unlink()


def test_a_run_goes_on_without_the_file(trained, tmp_path):
    (tmp_path / "mycells.py").write_text(FILE)
    long = [o for o in OWN if not o.startswith("trainer.epochs")] + ["trainer.epochs=1200"]
    process = start(*RUN, *long, "checkpoint_every=0.05", cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            process.kill()
            break
    process.communicate(timeout=300)
    (tmp_path / "mycells.py").unlink()
    succeeded(python(*RUN, "resume=latest", cwd=tmp_path))
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"


def test_a_sweep_over_cells(tmp_path):
    (tmp_path / "mycells.py").write_text(FILE)
    cells = "model.layers.0.cell=mycells.py:mine,rnn"
    lines = succeeded(python(*RUN, "-m", *OWN, cells, "seed=1,2", cwd=tmp_path))
    assert any("mycells.py" in line for line in lines)


def test_what_cannot_be_compiled_is_one_line(tmp_path):
    (tmp_path / "mycells.py").write_text(FILE)
    wrong = "model.layers.0.cell=mycells.py:branch"
    error = refused(python(*RUN, *OWN, wrong, cwd=tmp_path))
    assert "mycells.py:15: a branch, comparison" in error
    (tmp_path / "broken.py").write_text("\ndef mine(x, h):\n    return (x.z\n")
    error = refused(python(*RUN, *OWN, "model.layers.0.cell=broken.py:mine", cwd=tmp_path))
    assert "broken.py:3: the file cannot be run: SyntaxError" in error
    error = refused(python(*RUN, *OWN, "model.layers.0.cell=other.py:mine", cwd=tmp_path))
    assert "there is no file other.py" in error
    error = refused(python(*RUN, *OWN, "model.layers.0.cell=mycells:mine", cwd=tmp_path))
    assert "add trusted=[mycells]" in error
    succeeded(
        python(*RUN, *OWN, "model.layers.0.cell=mycells:mine", "trusted=[mycells]", cwd=tmp_path)
    )
