"""What becomes of signals, within one process and at its end."""

import contextlib
import gc
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from interrupts import interrupted_at_every_moment

from nnjit.runtime import signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def default_handlers():
    before = {n: signal.signal(n, signal.default_int_handler) for n in signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in signals.NUMBERS]


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_one_interrupt_for_many_signals(number):
    before, done = handlers(), []

    def work():
        with signals.heard(), signals.heard():
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                signal.raise_signal(number)  # while the record is closed
                signal.raise_signal(signal.SIGINT)
                done.append("record")
                raise
            finally:
                signal.raise_signal(number)
                done.append("file")

    for _ in range(2):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["record", "file"]
        assert handlers() == before


class Dropping:
    """Hears a signal where Python drops exceptions."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_python_drops_is_raised_again(capfd):
    def wait():
        del things[:]
        time.sleep(600)

    things, began = [Dropping()], time.monotonic()
    with pytest.raises(KeyboardInterrupt), signals.heard():
        wait()
    assert time.monotonic() - began < 300
    assert capfd.readouterr().err == ""

    def look():
        del things[:]
        signals.check()

    things.append(Dropping())
    with pytest.raises(KeyboardInterrupt), signals.heard():
        look()


def test_an_interrupt_that_others_swallow_is_raised_at_the_end():
    with (
        pytest.raises(KeyboardInterrupt),
        signals.heard(),
        contextlib.suppress(BaseException),
    ):
        signal.raise_signal(signal.SIGINT)


def test_other_exceptions_in_destructors_are_told(capfd):
    class Broken:
        def __del__(self):
            raise ZeroDivisionError

    with signals.heard():
        things = [Broken()]
        del things[:]
        gc.collect()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_call_to_the_store_is_not_broken_off():
    done = []

    def call():
        with signals.held():
            with signals.held():
                signal.raise_signal(signal.SIGTERM)
            done.append("all")
        done.append("more")

    with pytest.raises(KeyboardInterrupt):
        call()
    assert done == ["all"]


def test_handlers_of_others_stay():
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with signals.heard():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        signals.check()
    assert came == [1]


def test_other_threads_leave_the_handlers_alone():
    before, seen = handlers(), []

    def work():
        with signals.heard(), signals.held():
            signals.check()
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_systems_without_some_signals(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    spec = importlib.util.spec_from_file_location("nnjit.signals_elsewhere", signals.__file__)
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere.NUMBERS == (signal.SIGINT, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), elsewhere.heard():
        signal.raise_signal(signal.SIGINT)


PROGRAM = """
import signal, sys, time
from nnjit.runtime import signals
signals._LATE = float(sys.argv[2])
number = getattr(signal, sys.argv[1])
with signals.heard(last=sys.argv[3] == "last"):
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        signal.raise_signal(number)
        print("closed", flush=True)
        if sys.argv[3] == "last":
            raise SystemExit(130)
        raise
"""


@pytest.mark.parametrize(
    ("name", "late", "last", "code", "output"),
    [
        ("SIGTERM", 10, "last", 130, "closed\n"),
        ("SIGHUP", 10, "last", 130, "closed\n"),
        ("SIGTERM", 10, "", -signal.SIGTERM, "closed\n"),  # as without nnjit, but in order
        ("SIGTERM", -1, "last", -signal.SIGTERM, ""),  # nobody waits for ever
    ],
)
def test_the_end_of_the_process(name, late, last, code, output):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(late), last], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, output), done.stderr


DONE = """
import signal, sys
from nnjit.runtime import signals
with signals.heard(last=True):
    print("done", flush=True)
signal.raise_signal(getattr(signal, sys.argv[1]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_after_all_is_done_a_signal_ends_the_process_without_a_word(name):
    done = subprocess.run([sys.executable, "-c", DONE, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-getattr(signal, name), "done\n", "")


MAKES_SOMETHING_ELSE = """
import os, signal
from nnjit.reporting.messages import one_line_errors
with one_line_errors():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt:
        raise ValueError("no such key") from None
"""


def test_an_interrupt_that_a_library_turned_into_an_error_is_one():
    done = subprocess.run(
        [sys.executable, "-c", MAKES_SOMETHING_ELSE], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (130, "nnjit: interrupted\n")


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_an_interrupt_at_any_moment_leaves_the_handlers(number):
    """A handler that stays would end the process at a Ctrl-C ten seconds later."""
    before, moments = handlers(), 0

    def work():
        with signals.heard(), signals.held():
            pass

    work()
    for moment in interrupted_at_every_moment(work, number):
        with signals.heard():
            pass
        assert handlers() == before, moment
        assert not signals.came(), moment
        moments = moment
    assert moments > 100


def test_handlers_of_others_outlive_a_block_that_was_broken_off():
    def work():
        with signals.heard():
            pass

    def other(number, frame):
        raise KeyboardInterrupt

    work()
    for moment in interrupted_at_every_moment(work):
        signal.signal(signal.SIGTERM, other)
        work()
        assert signal.getsignal(signal.SIGTERM) is other, moment
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.mark.parametrize("name", ["predict", "compare", "cells"])
def test_a_command_called_from_python_leaves_the_handlers(name):
    before = handlers()
    with pytest.raises(SystemExit):
        importlib.import_module(f"nnjit.commands.{name}").main(["nothing=of this"])
    assert handlers() == before
