import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from nnjit.datasets import AuthorMusic
from nnjit.datasets.download import extract, fetch
from nnjit.errors import DataError


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
    """Serves one file; the first `breaks` answers stop half way through what is asked."""

    def __init__(self, content, breaks=0, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges = content, breaks, ranges
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/author_music.tar"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        content, start = self.server.content, 0
        if asked and self.server.ranges:
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
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.breaks > 0:
            self.server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

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
    assert len(music(tmp_path, "no address").load(0).train) > 0
