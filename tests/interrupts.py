import _thread
import signal
import sys
import time


def interrupted_at_every_moment(function, number=signal.SIGINT):
    """Call ``function`` again and again, with a signal after its first, second, ... instruction."""
    moment, ended = 0, False
    while not ended:
        moment += 1
        left = moment

        def trace(frame, event, argument):
            nonlocal left
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left == 0:
                # As a signal that arrives now: Python handles it where it next looks for signals,
                # in ``function``. It looks at the beginning and the end of a call, so there must
                # be none from here on.
                sys.settrace(None)
                (_,) = map(_thread.interrupt_main, [number])
            return trace

        before = sys.gettrace()
        try:
            sys.settrace(trace)
            function()
            time.sleep(0)  # where Python looks for signals, if it has not yet
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        ended = left > 0
        yield moment
