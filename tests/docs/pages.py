"""The code blocks of README.md and docs/, and how they are run.

``python tests/docs/pages.py PAGE ...`` runs the blocks of pages and writes what they print now into
the ``text`` blocks that show it.

The blocks of a page run in order, in one temporary folder that has conf/, benchmarks/ and the
bundled recordings as a clone does. A ``text`` block shows lines that the block before it prints,
one after the other; a line ``...`` stands for those left out, and a line that ends with ``...`` is
cut. Numbers and ids may differ from what a page shows, words may not. A comment before a block says
what is special:

``<!-- test: skip, REASON -->``   it cannot run in a test
``<!-- test: stays -->``          a server: it stays until the end of the page, then gets Ctrl-C
``<!-- test: Ctrl-C -->``         it is interrupted soon after its run is on record
``<!-- test: fails -->``          it must exit with another code than 0
"""

import contextlib
import itertools
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = tuple(path for path in PAGES if path.exists())
RUN, SHOWN = ("bash", "python"), "text"
MARKS = ("", "skip", "stays", "Ctrl-C", "fails")
CUT = "..."
HOME = "/home/me/nnjit"  # what pages show instead of the folder of a test
SECONDS = 600
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"<!-- test: ([\w-]+)(?:, (.*?))? -->\n\Z")
_VERDICT = re.compile(r"^(Better|Worse) than a guess.*|^Not told from a guess.*|^By their inter.*")
_OURS = ("HYDRA", "MLFLOW", "NNJIT", "COLUMNS", "FORCE_COLOR", "PYTHONPATH", "PYTEST")


@dataclass
class Block:
    """A fenced block: its language, its text, and what a comment before it says."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""
    shown: list[str] = field(default_factory=list)  # lines of the text block that follows

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page; what a text block shows belongs to the one before it."""
    content = page.read_text()
    found: list[Block] = []
    for match in _BLOCK.finditer(content):
        before = content[: match.start()]
        mark = _MARK.search(before)
        line = before.count("\n") + 1
        block = Block(page, line, match[1], match[2], *(mark.groups("") if mark else ()))
        if block.mark not in MARKS:
            raise ValueError(f"{block.place}: test: {block.mark} is none of {', '.join(MARKS)}")
        if block.language != SHOWN:
            found.append(block)
        elif not found or found[-1].language not in RUN or found[-1].shown:
            raise ValueError(f"{block.place} shows what no block before it prints")
        else:
            found[-1].shown = block.text.splitlines()
    return found


def form(line: str) -> str:
    """Return a line without what may differ between two runs: numbers and what they say, ids."""
    line = _VERDICT.sub("a verdict", line.replace(" (0/0)", "").replace("*", " "))
    line = re.sub(r"\b[0-9a-f]{8,64}\b|\d+", "0", line)
    line = re.sub(r"0(?:[.,:-]0)+", "0", line)
    return re.sub(r"([─-])\1+", r"\1", " ".join(line.split()))


def same(shown: str, printed: str) -> bool:
    """Tell whether a line of a text block stands for a printed one."""
    if shown.endswith(CUT):
        return form(printed).startswith(form(shown.removesuffix(CUT)))
    return form(shown) == form(printed)


def fit(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """Return the printed lines that the lines of a text block stand for.

    Raises
    ------
    AssertionError
        Where lines between two ``...`` were not printed one after the other.
    """
    found: list[str] = []
    position = 0
    for skipped, group in itertools.groupby(shown, lambda line: line.strip() == CUT):
        part = list(group)
        if skipped:
            found += part
            continue
        places = range(position, len(printed) - len(part) + 1)
        fitting = (p for p in places if all(map(same, part, printed[p:])))
        if (place := next(fitting, None)) is None:
            raise AssertionError("this is shown, but not printed:\n" + "\n".join(part))
        position = place + len(part)
        for old, new in zip(part, printed[place:position], strict=True):
            found.append(new[: len(old) - len(CUT)] + CUT if old.endswith(CUT) else new)
    return found


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that looks like a clone to the commands of a page."""
    with tempfile.TemporaryDirectory(prefix="nnjit-docs-") as name:
        place = Path(name).resolve()
        for part in ("conf", "benchmarks"):
            (place / part).symlink_to(ROOT / part)
        (place / "nnjit" / "datasets").mkdir(parents=True)
        (place / "nnjit" / "datasets" / "data").symlink_to(ROOT / "nnjit" / "datasets" / "data")
        yield place


@dataclass
class Reader:
    """Runs the blocks of one page in order in a folder."""

    place: Path
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, block: Block) -> list[str]:
        """Run a block and return the lines that it prints, errors included."""
        script = self.place / (".block.py" if block.language == "python" else ".block.sh")
        script.write_text(block.text)
        command = [sys.executable] if block.language == "python" else ["bash", "-euo", "pipefail"]
        with open(self.place / ".output", "w+b") as output:
            process = subprocess.Popen(
                [*command, str(script)],
                cwd=self.place,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A child of a shell's background job would inherit that Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            try:
                code = self._wait(block, process)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        printed = self._printed()
        expected = {"": code == 0, "stays": code is None, "fails": code not in (0, None)}
        expected["Ctrl-C"] = code == 130
        if not expected[block.mark]:
            raise AssertionError(f"{block.place} exited with {code}:\n" + "\n".join(printed))
        return printed

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        """Interrupt the servers; AssertionError where one does not end by itself."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGINT)
        for server in self.servers:
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                raise AssertionError(f"{server.args} does not end after Ctrl-C") from None

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def _printed(self) -> list[str]:
        text = (self.place / ".output").read_text(errors="replace")
        return [line.rstrip() for line in text.replace(str(self.place), HOME).splitlines()]

    def _wait(self, block: Block, process: subprocess.Popen[bytes]) -> int | None:
        if block.mark == "stays":
            self._until(process, lambda: self._answers() and self._prints(block))
            self.servers.append(process)
            return None
        if block.mark == "Ctrl-C":
            self._until(process, self._runs)
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGINT)
        return process.wait(SECONDS)

    def _until(self, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        end = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            if ready():
                return
            time.sleep(0.2)
        raise AssertionError("it was not ready in time:\n" + "\n".join(self._printed()))

    def _answers(self) -> bool:
        """Tell whether the first address of this machine that was printed shows a page."""
        found = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(self._printed()))
        with contextlib.suppress(OSError):
            return bool(found) and urllib.request.urlopen(found[0], timeout=5).status == 200
        return False

    def _prints(self, block: Block) -> bool:
        """Tell whether all that the page shows was printed."""
        with contextlib.suppress(AssertionError):
            return bool(fit(block.shown, self._printed()) or not block.shown)
        return False

    def _runs(self) -> bool:
        """Tell whether a run is on record that has not ended."""
        store = self.place / "runs" / "mlflow.db"
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(f"file:{store}?mode=ro", 5) as db:
            return bool(db.execute("SELECT 1 FROM runs WHERE status = 'RUNNING'").fetchall())
        return False


def read(page: Path) -> None:
    """Run all blocks of a page; AssertionError where one fails or prints something else."""
    with folder() as place, Reader(place) as reader:
        for block in blocks(page):
            if block.mark != "skip":
                printed = reader.run(block)
                try:
                    fit(block.shown, printed)
                except AssertionError as error:
                    everything = "\n".join(printed)
                    raise AssertionError(f"{block.place}: {error}\n\n{everything}") from None


def rewrite(page: Path) -> None:
    """Run all blocks of a page, and write what they print now where it still fits."""
    with folder() as place, Reader(place) as reader:
        for block in blocks(page):
            if block.mark == "skip":
                continue
            began, used = time.monotonic(), _processor_seconds()
            printed: list[str] = []
            try:
                printed = reader.run(block)
                now = fit(block.shown, printed)
            except AssertionError as error:
                print(f"{block.place}: {error}", *printed, sep="\n", flush=True)
                continue
            times = (
                f"{time.monotonic() - began:.1f} s, processor {_processor_seconds() - used:.1f} s"
            )
            print(f"{block.place}  {times}", flush=True)
            old, new = ("\n".join(["```text", *lines, "```"]) for lines in (block.shown, now))
            page.write_text(page.read_text().replace(old, new))


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name).resolve())
