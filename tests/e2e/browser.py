"""A real Chromium without a window, spoken to through a pipe in its own protocol."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One page. ``with Browser() as page: page.open(URL, "some text"); page.text()``."""

    def __init__(self, width=1600, height=900):
        self._size = (width, height)

    def __enter__(self):
        self._folder = tempfile.mkdtemp()
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()

        def pipes():  # Chromium reads from 3 and writes to 4
            os.dup2(theirs_in, 63)
            os.dup2(theirs_out, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)

        self._process = subprocess.Popen(
            [
                CHROMIUM,
                *_FLAGS,
                f"--user-data-dir={self._folder}",
                "--remote-debugging-pipe",
                "--window-size={},{}".format(*self._size),
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=pipes,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb", 0)
        self._count, self._rest, self._session = 0, b"", None
        (target,) = (
            t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")
        # MLflow opens a panel on the first visit, and keeps in the browser that it was closed.
        self._call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')",
        )
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(30)
        self._out.close()
        self._in.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url, *expected, seconds=60):
        """Go to an address and wait until the page shows every text that is expected."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        self.wait(*expected, seconds=seconds)

    def wait(self, *expected, seconds=60):
        """Wait until the page shows every text that is expected."""
        end = time.monotonic() + seconds
        while missing := [text for text in expected if text not in self.text()]:
            assert time.monotonic() < end, f"{missing} is not on the page:\n{self.text()}"
            time.sleep(0.2)

    def until(self, script, seconds=60):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"{script} is not true"
            time.sleep(0.2)

    def text(self):
        """Return what a person can read on the page."""
        return self.run("document.body ? document.body.innerText : ''")

    def run(self, script):
        """Return the value of a JavaScript expression."""
        return self._call("Runtime.evaluate", expression=script)["result"].get("value")

    def screenshot(self, path):
        """Write a picture of the page."""
        data = self._call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def _call(self, method, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                chunk = self._in.read(1 << 16)
                assert chunk, "the browser has gone"
                self._rest += chunk
            line, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
