import fcntl
import os
import pty
import re
import shutil
import struct
import sys
import termios

import numpy as np
import pytest
import soundfile
from commands import PREDICT, RUN, SMALL, environment, python, refused, succeeded
from conftest import GUITAR
from hydra.core.override_parser.overrides_parser import OverridesParser

from nnjit.classifier import Classifier
from nnjit.config.overrides import quoted

UNTRACKED = (*SMALL, "tracking=none")


WATCHED = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: pathlib.Path("modules").write_text("\\n".join(sys.modules)))
runpy.run_module("nnjit.run", run_name="__main__")
"""


@pytest.fixture(scope="module")
def untracked(tmp_path_factory):
    """Return a folder with an untracked run, what it printed and the modules it imported."""
    place = tmp_path_factory.mktemp("untracked")
    lines = succeeded(python("-c", WATCHED, *UNTRACKED, cwd=place))
    return place, lines, (place / "modules").read_text().splitlines()


def test_untracked_run_does_not_import_mlflow(untracked):
    modules = untracked[2]
    assert "nnjit.training.trainer" in modules
    for name in ("mlflow", "pandas", "matplotlib", "torch", "sklearn"):
        assert name not in modules


def test_untracked_run_leaves_a_model(untracked):
    place, lines, _ = untracked
    (path,) = place.rglob("model.pkl")
    assert Classifier.load(path).classes == ("nylon", "steel")
    assert lines[-1] == f"predict  python -m nnjit.predict model={path} audio=FILE_OR_FOLDER"
    song = next(GUITAR.glob("el_senator/*.ogg"))
    judged = succeeded(python(*PREDICT, f"model={path}", f"audio={song}", cwd=place))
    assert "mean probability" in judged[-2]


def test_output_in_order(untracked):
    text = "\n".join(untracked[1])
    parts = (
        "karplus: all 48 clips",
        "majority baseline 0.500",
        "rnn      (N, 200, 1)",
        "epoch 0/2  train accuracy",
        "epoch 2/2  train accuracy",
        "dataset=karplus dataset.rate=1000",
        "accuracy",
        "95 % interval",
        "Best epoch: ",
        "predict  ",
    )
    places = [text.index(part) for part in parts[:5]]
    places += [text.rindex(part) for part in parts[-3:]]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_help(tmp_path):
    text = "\n".join(succeeded(python(*RUN, "--help", cwd=tmp_path)))
    for part in (
        "Usage:",
        "model: ff, gru, lstm, recurrent, rnn",
        "python -m nnjit.run",
        "epochs: 10",
        "--cfg",
    ):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_cfg_job(tmp_path):
    text = "\n".join(succeeded(python(*RUN, "--cfg", "job", "model=lstm", cwd=tmp_path)))
    for part in ("_target_: nnjit.layers.LSTM", "epochs: 10", "seed: 1", "learning_rate: 0.16"):
        assert part in text


def test_python_does_not_warn(tmp_path):
    assert succeeded(
        python("-W", "error::DeprecationWarning:nnjit", *RUN, *UNTRACKED, cwd=tmp_path)
    )


CONFIGURATION = [
    (
        ["model=gruu"],
        "model=gruu does not exist: did you mean gru? choose from ff, gru, lstm, recurrent, rnn",
    ),
    (["experiment=seed_grru"], "did you mean seed_gru? choose from seed_ff, seed_gru, seed_rnn"),
    (["trainer.epochz=3"], "did you mean epochs? choose from"),
    (["trainer.epochs=x"], "trainer.epochs='x' has the wrong type: it takes int"),
    (["dataset.rate=-5"], "dataset.rate=-5 does not work"),
    (["optimizer.layers={rnn:{clip_norm:1}}"], "+optimizer.layers.rnn=VALUE"),
    (["model._target_=os.system"], "is not of nnjit"),
    (["trainer.epochs=[1"], "trainer.epochs='[1' has the wrong type"),
    (["model=5"], "write GROUP=CHOICE"),
    (["optimizer.learning_rate=1e38"], "the loss became"),
    (["trainer.replicas=4"], "does not exist any more: use -m trainer.seed=1,2,3,4"),
    (["schedule=linear"], "schedule=linear has another name now: use schedule=inverse_time"),
]
MORE = [
    (["epochs=3"], "epochs does not exist: did you mean trainer.epochs"),
    (["trainer.epochs=0"], "trainer.epochs=0 must be"),
    (["trainer.batch_size=99"], "trainer.batch_size=99 is more than the 24 training clips"),
    (["trainer.loss=hinge"], "choose from mse, mae"),
    (["trainer.loss=binary_cross_entropy"], "needs sigmoid"),
    (["trainer.threads=0"], "trainer.threads=0"),
    (["trainer.monitor=val/f2"], "choose from loss, accuracy"),
    (["trainer.monitor=val/roc_auc"], "is not measured in every epoch: after the set, choose from"),
    (["dataset.levels=300"], "dataset.levels=300"),
    (["dataset.split=song"], "use track, clip"),
    (["dataset.duration=0"], "dataset.duration=0"),
    (["dataset.n_tracks=1"], "too few for 3 sets"),
    (["dataset.n_clips=1"], "has no clips left"),
    (["dataset.positive=wood"], "use nylon, steel"),
    (["optimizer.learning_rate=-1"], "must be above 0"),
    (["+optimizer.layers.gru.clip_norm=1"], "names 'gru', the model has rnn, dense, dense_2"),
    (["model.layers.0.hidden_size=0"], "hidden_size=0"),
    (["model.layers.3.rate=1.5"], "rate=1.5"),
    (["seed=-1"], "seed=-1 must be 0 or more"),
    (["nonsense"], "cannot read 'nonsense'"),
    (["=5"], "write GROUP=CHOICE"),
]


SLOW_MORE = [pytest.param(*row, marks=pytest.mark.slow) for row in MORE]


@pytest.mark.parametrize(
    ("overrides", "message"), CONFIGURATION + SLOW_MORE, ids=lambda v: str(v)[:50]
)
def test_bad_configuration_is_one_line(overrides, message, tmp_path):
    assert message in refused(python(*RUN, *UNTRACKED, *overrides, cwd=tmp_path))


FOLDER = (
    *("dataset=folder", "dataset.root=music", "dataset.rate=200", "dataset.sizes=[1,1,0]"),
    *("model=rnn", "trainer.epochs=1", "tracking=none"),
)


def damage(music, what):
    song = sorted(music.rglob("*.ogg"))[0]
    if what == "missing folder":
        music.rename(music.with_name("elsewhere"))
    elif what == "empty folder":
        for path in song.parent.iterdir():
            path.unlink()
    elif what == "one class":
        song.parent.rename(music.with_name("elsewhere"))
    elif what == "only text":
        for path in music.rglob("*.ogg"):
            path.write_text("not audio")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing folder", "dataset.root=music is no folder"),
        ("empty folder", "holds no recordings"),
        ("one class", "has 1 sub-folder(s)"),
        ("only text", "none of the 4 recordings of folder can be used"),
    ],
)
def test_bad_folders_are_one_line(what, message, music, tmp_path):
    damage(music, what)
    assert message in refused(python(*RUN, *FOLDER, cwd=tmp_path))


def test_no_root_is_one_line(tmp_path):
    assert "add dataset.root=VALUE" in refused(
        python(*RUN, FOLDER[0], "tracking=none", cwd=tmp_path)
    )


def test_files_that_cannot_be_used_are_named_and_the_rest_goes_on(music, tmp_path):
    place = music / "el_senator"
    noise = np.random.default_rng(0).uniform(-1, 1, 48_000)
    (place / "text.wav").write_text("not audio")
    soundfile.write(place / "whole.wav", noise, 16_000)
    soundfile.write(place / "silent.wav", 0 * noise, 16_000)
    soundfile.write(place / "short.wav", noise[:1600], 16_000)
    content = (place / "whole.wav").read_bytes()
    (place / "truncated.wav").write_bytes(content[: len(content) // 2])
    (place / "empty.wav").touch()
    done = python(*RUN, *FOLDER, "dataset.n_clips=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    expected = {
        "text": "cannot be read as audio",
        "silent": "is silent or constant",
        "short": "shorter than one clip",
        "truncated": "ends before its header says so",
        "empty": "",
    }
    assert len(lines) == len(expected)
    for name, reason in expected.items():
        (line,) = (line for line in lines if f"el_senator/{name}.wav " in line)
        assert line.startswith("nnjit: warning: ")
        assert line.endswith("(SkippedFileWarning)")
        assert reason in line


def test_runs_is_a_file(tmp_path):
    (tmp_path / "runs").touch()
    assert "runs" in refused(python(*RUN, *UNTRACKED, cwd=tmp_path))


def on_terminal(columns, *arguments, cwd):
    """Run Python on a terminal of so many columns; return its exit code and what it wrote."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.chdir(cwd)
        os.execvpe(sys.executable, [sys.executable, *arguments], environment(TERM="xterm"))
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux ends a terminal so
            break
        if not part:
            break
        written += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode()


def screen(written):
    """Return the lines that stay on a terminal, without colours."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|\r?\n|\r|[^\x1b\r\n]+", written):
        if part.endswith("\n"):
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K" or part == "\r":
            lines[row] = "" if part == "\x1b[2K" else lines[row]
        elif part[0] != "\x1b":
            lines[row] += part
    return lines


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("columns", [80, 140])
def test_on_a_terminal(columns, tmp_path):
    code, written = on_terminal(columns, *RUN, *UNTRACKED, "trainer.epochs=400", cwd=tmp_path)
    assert code == 0, written
    live = re.findall(
        r"epoch (\d+)/399  batch 0/0  accuracy [\d.]+  loss [\d.]+  \S+ s gone", written
    )
    assert len(live) > 1
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    left = screen(written)
    assert not any(line.startswith("epoch ") for line in left)
    assert max(len(line) for line in left if not line.startswith("predict ")) <= columns
    assert not any("…" in line for line in left)
    assert any(re.search(r"\*\d+ +1.60e-01", line) for line in left)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_failure_leaves_the_terminal_clean(tmp_path):
    code, written = on_terminal(80, *RUN, *UNTRACKED, "optimizer.learning_rate=1e38", cwd=tmp_path)
    assert code == 1
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert "Traceback" not in written
    assert written.index("\x1b[?25h") < written.index("nnjit: the loss became")


@pytest.mark.slow
def test_wheel_holds_conf_and_runs_anywhere(tmp_path, pytestconfig):
    build = ("-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, pytestconfig.rootpath)
    done = python(*build, cwd=tmp_path)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("the build backend cannot be had")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    unpacked, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert python("-m", "zipfile", "-e", wheel, unpacked, cwd=tmp_path).returncode == 0
    assert (unpacked / "nnjit" / "conf" / "model" / "gru.yaml").is_file()
    path = {"PYTHONPATH": str(unpacked)}
    where = succeeded(python("-c", "import nnjit; print(nnjit.__file__)", cwd=elsewhere, **path))
    assert where[0].startswith(str(unpacked))
    options = ("model=rnn", "dataset.rate=200", "trainer.epochs=1", "tracking=none")
    lines = succeeded(python(*RUN, *options, cwd=elsewhere, **path))
    assert lines[0].startswith("guitar: ")


@pytest.mark.parametrize(
    "argument",
    [
        "dataset.root=Müsik",
        "dataset.root=a (b), c",
        "dataset.root=~/x",
        'name=say "hi"',
        "name=a\\b",
    ],
)
def test_values_that_hydra_does_not_know_are_quoted(argument):
    (again,) = quoted([argument])
    override = OverridesParser.create().parse_override(again)
    assert override.value() == argument.partition("=")[2]


def test_other_arguments_stay():
    arguments = ["-m", "model=ff,rnn", "seed=1", "--cfg", "job", "~schedule", "a=[1,2]", "b={c: 1}"]
    assert quoted(arguments) == arguments


@pytest.mark.slow
def test_folders_with_odd_names(tmp_path):
    root = tmp_path / "Müsik (alt), neu"
    for author in ("el_senator", "carlos_viola"):
        shutil.copytree(GUITAR / author, root / author)
    options = ("dataset=folder", f"dataset.root={root}", "dataset.rate=1000", "trainer.epochs=1")
    lines = succeeded(python(*RUN, *options, "model=rnn", "tracking=none", cwd=tmp_path))
    assert lines[0].startswith("folder: all 256 clips")
