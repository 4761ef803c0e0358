import os
import subprocess
import sys

import pytest

from nnjit.runtime.text import markdown_block, markdown_text, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C♯ ± naïve …\n\tb", "C♯ ± naïve …\n\tb"),
        ("a\x1b[31mb\r\x07", "a\\x1b[31mb\\x0d\\x07"),
        ("\x85\x9b\u202eb", "\\x85\\x9b\\u202eb"),
        (os.fsdecode(b"caf\xe9.wav"), "caf\\udce9.wav"),
        ("क\u200dष 👩\u200d🎤", "क\u200dष 👩\u200d🎤"),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected


def test_printable_in_ascii():
    assert printable("0.5 ± 0.1 … C♯", "ascii") == "0.5 +- 0.1 ... C\\u266f"


def test_markdown_shows_text_as_it_is():
    assert markdown_block("a ``` b\n`") == "````\na ``` b\n`\n````"
    assert markdown_text("a|b *c* [d](e)") == r"a\|b \*c\* \[d\]\(e\)"


_PRINTS = """
from nnjit.reporting.messages import one_line_errors
from nnjit.runtime.text import say
from nnjit.reporting import terminal
with one_line_errors():
    file = open("data", "w+b")
    say("C♯ ±")
    terminal.console().print("C♯ ±")
    print("C♯ \\udcff")
    file.seek(0)
    assert not file.read()
"""


@pytest.mark.parametrize("redirection", ["", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(redirection, tmp_path):
    """What is printed goes nowhere, and not into the next file that is opened."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        f"{sys.executable} -c '{_PRINTS}' {redirection}",
        shell=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = ["C\\u266f +-", "C\\u266f +-", "C\\u266f \\udcff"]
    assert done.stdout.splitlines() == ([] if ">&-" in redirection.replace("2>&-", "") else lines)
