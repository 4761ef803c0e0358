"""Ctrl-C, SIGTERM and SIGHUP interrupt the work once, so that it can close its record.

The first signal raises KeyboardInterrupt in the main thread. While that exception propagates,
further signals are ignored: they would interrupt the writing of a checkpoint or of a record. A
signal that comes ten seconds later ends the process at once, since something hangs.

Python drops an exception that is raised in a destructor or in a callback of C code. The exception
of such a signal is raised again, a moment later or at the next `check`.
"""

import _thread
import contextlib
import os
import signal
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any, final

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
NUMBERS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_HANGUP = getattr(signal, "SIGHUP", 0)
_LATE = 10.0  # seconds after the first signal; another one then ends the process at once
_AGAIN = 0.05  # seconds until a signal whose exception was dropped is raised again
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


@final
class Interrupted(KeyboardInterrupt):
    """Raised by the first of several signals."""


@final
class _State:
    """The signal that came, and its exception; only the main thread changes this."""

    def __init__(self) -> None:
        self.heard = False  # handlers are in place
        self.holds = 0  # nested `held` blocks
        self.number = 0  # of the first signal
        self.came = 0.0
        # The exception exists only while it propagates or is being handled.
        self.error: weakref.ref[Interrupted] | None = None
        self.before: dict[int, Any] = {}  # the handlers that `_handle` replaces


_state = _State()


@contextlib.contextmanager
def heard(last: bool = False) -> Iterator[None]:
    """Make the first signal raise KeyboardInterrupt inside the block.

    Handlers that others have installed stay, as do signals that are ignored (nohup). A signal
    whose default is to end the process, such as SIGTERM, ends it after the block.


    Parameters
    ----------
    last
        The caller ends the process after the block, with its own exit code. If a signal came,
        later ones are ignored. If none came, everything is recorded, and a later signal ends the
        process at once.
    """
    if _state.heard or not _in_main_thread():
        yield
        return
    hook = sys.unraisablehook
    try:
        _state.heard = True
        sys.unraisablehook = _raise_again
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if handler in _DEFAULT:
                _state.before[number] = handler
                signal.signal(number, _handle)
        yield
        check()
    finally:
        # No exception can be raised before the first call here. After it, `_handle` restores the
        # handlers that this block did not.
        number, _state.number = _state.number, 0
        _state.heard, _state.error, _state.holds = False, None, 0
        sys.unraisablehook = hook
        afterwards = _state.before.get(number)
        if last:
            ending = signal.SIG_IGN if number else signal.SIG_DFL
            _state.before = dict.fromkeys(_state.before, ending)
        for n in NUMBERS:
            _put_back(n)
        if not last and afterwards is signal.SIG_DFL:
            signal.raise_signal(number)


def obey_parent() -> None:
    """Let only SIGTERM interrupt this process, a worker; its parent sends it.

    Ctrl-C and the end of a terminal also reach the parent, which then ends its workers in order.
    """
    sys.unraisablehook = _raise_again
    for number in NUMBERS:
        signal.signal(number, _handle if number == signal.SIGTERM else signal.SIG_IGN)
    _state.heard = True


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay signals until the block is done.

    A transaction that is interrupted in Python code may keep its lock on an SQLite file as long as
    the traceback exists.
    """
    if not _in_main_thread():  # Python handles signals only there
        yield
        return
    with heard():
        _state.holds += 1
        try:
            yield
        finally:
            _state.holds -= 1
            check()


def came() -> bool:
    """Tell whether a signal has come inside the current `heard` block."""
    return bool(_state.number)


def check() -> None:
    """Raise KeyboardInterrupt if a signal came whose exception was dropped or not raised yet.

    Long work calls it between its steps.
    """
    if _state.number and _in_main_thread():
        _raise()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _put_back(number: int) -> None:
    if number in _state.before and signal.getsignal(number) is _handle:
        signal.signal(number, _state.before[number])


def _handle(number: int, frame: FrameType | None) -> None:
    if not _state.heard:
        _put_back(number)
        signal.raise_signal(number)
        return
    if not _state.number:
        _state.number, _state.came = number, time.monotonic()
    elif time.monotonic() - _state.came > _LATE:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    if number == _HANGUP:
        _leave_terminal()
    _raise()


def _leave_terminal() -> None:
    """Discard output if the terminal is gone: an error on writing would keep records open."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _raise() -> None:
    propagating = _state.error is not None and _state.error() is not None
    if not propagating and not _state.holds:
        raise _new_error()


def _new_error() -> Interrupted:
    # Not in `_raise`: the traceback holds its frame, and a local name there would keep the
    # exception alive.
    error = Interrupted()
    _state.error = weakref.ref(error)
    return error


def _raise_again(dropped: Any) -> None:
    """Replace `sys.unraisablehook`: an interrupt that Python dropped is raised again."""
    if not isinstance(dropped.exc_value, Interrupted):
        sys.__unraisablehook__(dropped)
        return
    again = threading.Timer(_AGAIN, _send_again)
    again.daemon = True
    again.start()


def _send_again() -> None:
    if not (number := _state.number):
        return
    if hasattr(signal, "pthread_kill"):  # it also ends a system call that blocks
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
