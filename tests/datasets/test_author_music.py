import contextlib
import hashlib
import io
import socket
import tarfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from nnjit.datasets import AuthorMusic, web
from nnjit.datasets.download import extract, fetch
from nnjit.errors import ConfigError, DataError, SkippedFileWarning


def tar_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def archive(rng):
    members = {"author_music/readme.txt": b"hello"}
    for track in range(6):
        buffer = io.BytesIO()
        soundfile.write(buffer, rng.uniform(-0.5, 0.5, 16_000), 8000, format="WAV")
        author = "true" if track % 2 else "false"
        members[f"author_music/{author}_author/{track}.wav"] = buffer.getvalue()
    return tar_bytes(members)


class Server(ThreadingHTTPServer):
    """Serves one file; the first `breaks` answers stop half way through what is asked.

    `answers` may change what is told: {"Content-Range": None} leaves it out.
    """

    def __init__(self, content, breaks=0, ranges=True, tag='"1"', answers=None, drip=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges = content, breaks, ranges
        self.tag, self.answers, self.drip = tag, answers or {}, drip
        self.asked, self.same = [], []
        self.url = f"http://127.0.0.1:{self.server_port}/author_music.tar"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        self.server.same.append(self.headers.get("If-Range"))
        content, start = self.server.content, 0
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.server.drip == "headers":
            self.trickle(b"HTTP/1.1 200 OK\r\nX: ")
            return
        same = self.headers.get("If-Range") in (None, self.server.tag)
        if asked and self.server.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if self.path != "/author_music.tar":
            self.send_error(404)
            return
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        rest = content[start:]
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(rest)), "ETag": self.server.tag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers |= self.server.answers
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.server.drip == "body":
            self.trickle(rest)
            return
        if self.server.breaks > 0:
            self.server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def trickle(self, content):
        for i in range(len(content)):
            try:
                self.wfile.write(content[i : i + 1])
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    running = []

    def serve(content, **options):
        server = Server(content, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def music(tmp_path, url, **options):
    options = {"n_clips": None, "rate": 4000, "cache_dir": None} | options
    return AuthorMusic(tmp_path / "music", url, **options)


def test_downloads_once(serve, archive, tmp_path, capsys):
    server = serve(archive)
    splits = music(tmp_path, server.url).load(0)
    assert splits.classes == ("false", "true")
    assert splits.balance()["train"] == {"false": 2, "true": 2}
    assert splits.train.ids[0].startswith("author_music/")
    assert music(tmp_path, server.url).load(0).digest == splits.digest
    assert server.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["music"]
    assert "author_music.tar: " in capsys.readouterr().err


def test_resumes_a_broken_transfer(serve, archive, tmp_path):
    server = serve(archive, breaks=2)
    fetch(server.url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive
    n = len(archive)
    assert server.asked == [None, f"bytes={n // 2}-", f"bytes={n // 2 + (n - n // 2) // 2}-"]


def test_gives_up_and_resumes_next_time(serve, archive, tmp_path):
    server = serve(archive, breaks=3)
    with pytest.raises(DataError, match=r"the transfer broke off.*by hand, or use dataset=guitar"):
        music(tmp_path, server.url).load(0)
    assert not (tmp_path / "music").exists()
    music(tmp_path, server.url).load(0)
    assert server.asked[3] is not None


def test_a_server_without_ranges_starts_anew(serve, archive, tmp_path):
    server = serve(archive, breaks=1, ranges=False)
    fetch(server.url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive


@pytest.mark.parametrize("extra", [0, 10])
def test_a_part_that_is_whole_or_too_long(serve, archive, tmp_path, extra):
    (tmp_path / "a.tar.part").write_bytes(archive + bytes(extra))
    fetch(serve(archive).url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive


def test_limits(serve, archive, tmp_path):
    with pytest.raises(DataError, match=r"dataset\.max_gb=1e-06"):
        music(tmp_path, serve(archive).url, max_gb=1e-6).load(0)
    (tmp_path / "a.tar").write_bytes(archive)
    with pytest.raises(DataError, match="unpacks to"):
        extract(tmp_path / "a.tar", tmp_path / "out", 1000)
    assert not (tmp_path / "out").exists()


def test_addresses_that_do_not_answer(serve, archive, tmp_path):
    server = serve(archive)
    with pytest.raises(DataError, match=r"other\.tar cannot be fetched \(HTTP 404"):
        music(tmp_path, server.url.replace("author_music", "other")).load(0)
    assert len(server.asked) == 1
    for url in ("http://127.0.0.1:9/x.tar", "no address"):
        with pytest.raises(DataError, match=f"{url} cannot be fetched.*dataset=guitar"):
            music(tmp_path, url).load(0)


@pytest.mark.parametrize("name", ["../true/a.wav", "/tmp/true/a.wav", "x/../../true/a.wav"])
def test_names_that_lead_outside(tmp_path, name):
    (tmp_path / "bad.tar").write_bytes(tar_bytes({"true/good.wav": b"x", name: b"x"}))
    with pytest.raises(DataError, match="outside its folder"):
        extract(tmp_path / "bad.tar", tmp_path / "out", 10**6)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


def test_links_and_other_files_stay_inside(tmp_path):
    members = {
        "true/a.wav": b"x",
        "true/link.wav": "/etc/passwd",
        "out": "/tmp",
        "true/._a.wav": b"x",
        "true/run.sh": b"x",
    }
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    assert extract(tmp_path / "a.tar", tmp_path / "out", 10**6) == 1
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["true", "a.wav"]


@pytest.mark.parametrize("cut", [0, 600, 20_000])
def test_a_damaged_archive(archive, tmp_path, cut):
    (tmp_path / "a.tar").write_bytes(archive[:cut] if cut else b"no tar")
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(tmp_path / "a.tar", tmp_path / "out", 10**9)


def test_a_folder_filled_by_hand(tmp_path, write):
    write("music/misc/0.wav")
    with pytest.raises(DataError, match="none below a folder named true or false"):
        music(tmp_path, "no address").load(0)
    for track in range(3):
        write(f"music/True/{track}.wav")
        write(f"music/False/{track}.wav", np.sin(np.arange(20_000) * 0.1 * (track + 1)))
    told = r"1 file\(s\) in no folder that says true or false are left out, misc/0.wav for one"
    with pytest.warns(SkippedFileWarning, match=told):
        assert len(music(tmp_path, "no address").load(0).train) > 0


@pytest.mark.parametrize("drip", ["headers", "body"])
def test_a_server_that_drips_is_not_waited_for(serve, archive, tmp_path, drip):
    """A byte now and then keeps every read within its time limit."""
    server = serve(archive, drip=drip)
    began = time.monotonic()
    told = r"cannot be fetched \(less than 1000 bytes a second came in 0.3 s\)"
    with pytest.raises(DataError, match=told):
        fetch(server.url, tmp_path / "a.tar", 10**9, timeout=0.3)
    assert time.monotonic() - began < 5
    assert len(server.asked) == 3
    server.drip = None
    fetch(server.url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive


def test_a_server_that_drips_before_tls_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            for _ in range(3):
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"\x16\x03\x03\x40\x00\x02")  # a long record begins
                    while True:
                        connection.sendall(b"\x00")
                        time.sleep(0.02)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/x.tar"
        with pytest.raises(DataError, match=r"\(less than 1000 bytes a second came in 0.3 s\)"):
            fetch(url, tmp_path / "a.tar", 10**9, timeout=0.3)
        thread.join(timeout=60)


def test_a_slow_but_steady_server_is_waited_for(serve, tmp_path):
    content = bytes(range(60))
    server = serve(content, drip="body")
    fetch(server.url, tmp_path / "a.tar", 10**9, timeout=3)
    assert (tmp_path / "a.tar").read_bytes() == content


@pytest.mark.parametrize("told", [None, "bytes 0-{last}/{n}", "bytes 7-{last}/{n}", "bytes x-y/*"])
def test_another_range_than_asked_is_not_appended(serve, archive, tmp_path, told):
    n = len(archive)
    answers = {"Content-Range": told and told.format(last=n - 1, n=n)}
    server = serve(archive, breaks=1, answers=answers)
    fetch(server.url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive
    assert server.asked == [None, f"bytes={n // 2}-", None]


def test_a_file_that_changed_meanwhile_is_fetched_anew(serve, archive, tmp_path):
    server = serve(archive, breaks=3)
    with pytest.raises(DataError, match="broke off"):
        fetch(server.url, tmp_path / "a.tar", 10**9)
    assert server.same == [None, '"1"', '"1"']
    server.content, server.tag = archive[::-1], '"2"'
    fetch(server.url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive[::-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_what_is_left_of_another_address_is_not_continued(serve, archive, tmp_path):
    with pytest.raises(DataError, match="broke off"):
        fetch(serve(archive, breaks=3, tag="").url, tmp_path / "a.tar", 10**9)
    other = serve(archive[::-1], tag="")
    fetch(other.url, tmp_path / "a.tar", 10**9)
    assert other.asked == [None]
    assert (tmp_path / "a.tar").read_bytes() == archive[::-1]


@pytest.mark.parametrize("name", ["a.tar.part", "a.tar.part.json"])
def test_what_is_left_may_be_damaged(serve, archive, tmp_path, name):
    (tmp_path / "a.tar.part").write_bytes(archive[:1000])
    (tmp_path / name).write_bytes(b"[")
    if name == "a.tar.part":
        archive = b"[" + archive
    fetch(serve(archive).url, tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive


@pytest.mark.parametrize("scheme", ["file", "data", "ftp", ""])
def test_other_addresses_than_http_are_refused(serve, archive, tmp_path, scheme):
    (tmp_path / "here.tar").write_bytes(archive)
    other = {
        "file": (tmp_path / "here.tar").as_uri(),
        "data": "data:application/x-tar;base64,AAAA",
        "ftp": "ftp://127.0.0.1/x.tar",
        "": "//",
    }[scheme]
    server = serve(archive)
    redirected = server.url.replace("/author_music.tar", f"/to/{other}")
    with pytest.raises(DataError, match=r"cannot be fetched \(it is no http or https address"):
        fetch(other, tmp_path / "a.tar", 10**9)
    if scheme:
        told = "it is no http or https address|Redirection to url '.*' is not allowed"
        with pytest.raises(DataError, match=told):
            fetch(redirected, tmp_path / "a.tar", 10**9)
    assert not (tmp_path / "a.tar").exists()
    fetch(server.url.replace("/author", "/to//author"), tmp_path / "a.tar", 10**9)
    assert (tmp_path / "a.tar").read_bytes() == archive


def test_https_does_not_lead_to_http():
    handler = web._Redirects()
    secure = urllib.request.Request("https://example.org/a.tar")
    with pytest.raises(DataError, match="leads from https to http:"):
        handler.redirect_request(secure, None, 302, "", {}, "http://example.org/b.tar")
    assert handler.redirect_request(secure, None, 302, "", {}, "https://example.org/b.tar")


def test_the_checksum_of_the_archive(serve, archive, tmp_path):
    right, server = hashlib.sha256(archive).hexdigest(), serve(archive)
    wrong = right[::-1]
    for _ in range(2):  # what was fetched stays, and is not fetched again
        with pytest.raises(DataError, match=f"SHA-256 {right}, and dataset.sha256 is {wrong}: del"):
            music(tmp_path, server.url, sha256=wrong).load(0)
    assert server.asked == [None]
    assert not (tmp_path / "music").exists()
    assert len(music(tmp_path, server.url, sha256=right.upper()).load(0).train) > 0
    with pytest.raises(ConfigError, match=r"dataset\.sha256=abc .*: set 64 hex digits, or null"):
        music(tmp_path, server.url, sha256="abc")


def test_the_outermost_folder_that_says_one_of_the_two_is_the_label(tmp_path, write):
    for name in ("false/its_true/0", "true/false_start/1", "true_or_false/untrue/2"):
        write(f"music/{name}.wav")
    recordings = music(tmp_path, "no address").sources()
    assert [(r.name[0], r.label) for r in recordings] == [("f", 0), ("t", 1), ("t", 1)]
