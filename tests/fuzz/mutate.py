"""Seeded mutations of plain values and of bytes, and what a reader may do with them.

Each target is fed a few cases in the fast suite. ``NNJIT_FUZZ=20000 python -m pytest tests/fuzz``
gives every target so many, each with a seed of its own, which a failure names;
``NNJIT_FUZZ_SEED`` is the first, 0 where it is not set.
"""

import contextlib
import copy
import os
import random
import signal
import tracemalloc

SECONDS = 10.0  # of the processor that a case may take
TEXTS = (
    *("", " ", "x", "x" * 100_000, "\0", "\n", "\x1b[2J", "\ud800", "ä", "[b]", "{", "'", '"', "~"),
    *("${oc.env:HOME}", "\\${oc.env:HOME}", "${seed}", "${", "nnjit.SGD", "os.mkdir", "../.."),
    *("1e9", "nan", "null", "latest", "/", "%s", "relu", "zeros", "float64", "GRU", "<f8", "|O"),
)
NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 256, 257, 2**31, -(2**31), 2**63, 2**64, 10**30, -(10**30), 10**300),
    *(0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
)
OTHERS = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    {"": None},
    [0] * 1000,
    b"",
    b"\xff" * 9,
)


def cases(few):
    """Return the seeds of the cases of a target."""
    first = int(os.environ.get("NNJIT_FUZZ_SEED", 0))
    return range(first, first + int(os.environ.get("NNJIT_FUZZ", few)))


def bomb(rng):
    """Return a value whose few parts stand for very many."""
    value = rng.choice([[], {}, "x" * 99, 0])
    for _ in range(rng.choice([3, 15, 40, 5000])):
        value = [value] * rng.choice([1, 2, 9]) if rng.random() < 0.8 else {"a": value}
    return value


def value(rng, bytes_too=False, bombs=False):
    """Return any plain value."""
    pool = rng.choice([TEXTS, NUMBERS, OTHERS])
    found = copy.deepcopy(rng.choice(pool))
    if isinstance(found, bytes) and not bytes_too:
        return None
    return bomb(rng) if bombs and rng.random() < 0.2 else found


def _places(node, found):
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, entry in list(entries):
        found.append((node, key))
        if isinstance(entry, dict | list):
            _places(entry, found)
    return found


def mutated(rng, document, bytes_too=False, bombs=False):
    """Return plain values with a change somewhere, or two or three where none may be a bomb."""
    document = copy.deepcopy(document)
    for _ in range(1 if bombs else rng.choice([1, 1, 1, 2, 3])):
        places = _places(document, [])
        if not places:
            break
        node, key = rng.choice(places)
        _change(rng, node, key, places, bytes_too, bombs)
    return document


def _change(rng, node, key, places, bytes_too, bombs):
    old, kind = node[key], rng.randrange(7)
    if kind == 0:
        del node[key]
    elif kind == 1:
        other, at = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            node[key] = copy.deepcopy(other[at])
    elif kind == 2 and isinstance(node, dict):
        node[rng.choice([*TEXTS, "layer", "units", "_target_"])] = node.pop(key)
    elif kind == 3 and isinstance(node, list):
        node.insert(key, copy.deepcopy(old))
    elif kind == 4 and isinstance(old, int | float):
        with contextlib.suppress(OverflowError):
            node[key] = rng.choice(
                [old + 1, old - 1, -old, old * 2, old * 10**6, float(old), str(old)]
            )
    elif kind == 5 and isinstance(old, bytes):
        node[key] = changed(rng, old)
    elif kind == 5 and isinstance(old, str):
        node[key] = rng.choice([old[:-1], old + "x", old.upper(), f"{old}.{old}", f"${{{old}}}"])
    else:
        node[key] = value(rng, bytes_too, bombs)


def changed(rng, content):
    """Return bytes with a few changed, left out, doubled or put in."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(content) + 1)
        size = rng.choice([1, 1, 2, 8, 1000])
        kind = rng.randrange(5)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            del content[at : at + size]
        elif kind == 2:
            content[at:at] = content[at : at + size]
        elif kind == 3:
            content[at : at + size] = rng.randbytes(len(content[at : at + size]))
        elif at < len(content):
            content[at] ^= 1 << rng.randrange(8)
    return bytes(content)


class TooLongError(BaseException):
    """A case that has no end."""


@contextlib.contextmanager
def limited(seed, most_bytes=None):
    """Give a case its seed, and bounds of time and, where they are told, of memory."""

    def stop(number, frame):
        raise TooLongError(f"case {seed} takes more than {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    if most_bytes is not None:
        tracemalloc.start()
    try:
        yield random.Random(seed)
        if most_bytes is not None:
            held = tracemalloc.get_traced_memory()[1]
            assert held < most_bytes(), f"case {seed} takes {held:,} bytes"
    except Exception as error:
        error.add_note(f"case {seed}")
        raise
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def one_line(error, most=1500):
    """See that an error is one that a person can read."""
    text = str(error)
    assert text.strip(), repr(error)
    assert len(text) < most, text[:300]
    assert "\n" not in text, text
