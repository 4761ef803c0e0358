"""``python .assets/make.py``: make the pictures of README.md and docs/ anew, as a person sees them.

Needs Chromium and ``pip install -e ".[search]"``. The pictures of the benchmark are made by
``python -m benchmarks`` and ``python -m benchmarks.memory``.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))

from browser import Browser  # noqa: E402

SWEEP = ("-m", "model=ff,rnn,gru", "seed=1,2,3")
SEARCH = ("-m", "search=gru", "hydra.sweeper.n_trials=20", "tracking.root=search")
# MLflow opens a panel on the right, whatever was said before; its last button at the top closes it.
CLOSE = """[...document.querySelectorAll('button')].filter(b => {
    const place = b.getBoundingClientRect();
    return place.left > innerWidth - 60 && place.top < 60 && place.width > 0;
}).pop().click()"""
DRAWN = "[...document.images].some(i => i.naturalWidth > 500)"


def command(name: str, *arguments: str) -> str:
    """Run a command of nnjit and return what it prints."""
    print(name, *arguments, flush=True)
    call = [sys.executable, "-m", f"nnjit.{name}", *arguments]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout


def newest_figure() -> Path:
    """Return the figure of the newest sweep."""
    return max(Path("runs/sweeps").glob("*/*/*.png"), key=os.path.getmtime)


@contextmanager
def pages(run: str) -> Iterator[dict[str, str]]:
    """Run MLflow's pages; yield their addresses by name."""
    call = [sys.executable, "-u", "-m", "nnjit.ui", f"run={run}"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = {}
        for line in server.stdout:
            name, _, address = line.partition(" ")
            found[name] = address.strip()
            if line.startswith("Ctrl-C"):
                break
        try:
            yield found
        finally:
            server.send_signal(signal.SIGINT)


def main() -> None:
    """Run what the pictures show in a temporary folder, and take them."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        command("run", *SEARCH)
        shutil.copy(newest_figure(), HERE / "search.png")
        command("run", *SWEEP)
        shutil.copy(newest_figure(), HERE / "sweep.png")
        command("compare", "model=gru", "seed=1", "out=gru.csv")
        (row,) = csv.DictReader(Path("gru.csv").read_text().splitlines())
        figures = Path("runs/artifacts") / row["id"] / "artifacts" / "figures"
        shutil.copy(figures / "learning_curves.png", HERE)
        screenshots(row["id"])


def picture(page: Browser, name: str) -> None:
    """Take a picture of a page as it is once all is drawn."""
    if "MLflow Assistant" in page.text():
        page.run(CLOSE)
    time.sleep(5)  # charts are drawn after their titles
    page.screenshot(HERE / name)


def screenshots(run: str) -> None:
    """Take the pictures of MLflow's pages on the store of the current folder."""
    view = command("compare", "seed=1", "view=Three architectures").split("then ")[-1].strip()
    with pages(run) as found:
        with Browser(1750, 860) as page:
            page.open(found["runs"], "model=gru seed=1")
            picture(page, "ui_runs.png")
        with Browser(1400, 770) as page:
            port = re.search(r":(\d+)/", found["runs"])
            assert port
            page.open(view.replace(":5000", f":{port[1]}"), "final/val_precision")
            picture(page, "ui_compare.png")
            page.open(found["run"].replace("?", "/artifacts/figures/learning_curves.png?"))
            page.until(DRAWN)
            picture(page, "ui_run.png")
            page.open(found["run"], "About this run")
            link = "[...document.links].map(a => a.href).find(h => h.includes('/models/m-'))"
            page.until(link)
            page.open(page.run(link), "About this logged model", "Ready")
            picture(page, "ui_model.png")


if __name__ == "__main__":
    main()
