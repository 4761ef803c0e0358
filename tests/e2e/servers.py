"""Servers as a laboratory runs them, each on a free port of this machine."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from commands import environment

PASSWORD = "s3cret-w0rd"


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _ended(process):
    process.send_signal(signal.SIGINT)  # PostgreSQL waits for its clients after SIGTERM
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def started(command, ready, **options):
    """Run a server until the block ends; ``ready()`` tells when it answers."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, **options
        )
        try:
            for _ in range(600):
                if process.poll() is not None or ready():
                    break
                time.sleep(0.1)
            if process.poll() is not None or not ready():
                log.seek(0)
                raise AssertionError(f"{command[0]} does not answer: {log.read()[-3000:]}")
            yield process
        finally:
            _ended(process)


@contextlib.contextmanager
def postgres():
    """Run a PostgreSQL server of its own and yield the address of an empty database."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(known[-1]) if known else None)
    if initdb is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="nnjit-postgres-"))
    as_user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    port, data = free_port(), folder / "data"
    try:
        make = [initdb, "-D", data, "-U", "lab", "-A", "scram-sha-256", "--no-sync"]
        make += [f"--pwfile={folder / 'password'}", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(make, capture_output=True, text=True, cwd=folder, **as_user)
        assert done.returncode == 0, done.stderr
        serve = [Path(initdb).with_name("postgres"), "-D", data, "-p", port, "-k", folder]
        serve += ["-h", "127.0.0.1", "-c", "fsync=off"]
        with started(serve, lambda: _answers(port), cwd=folder, **as_user):
            yield f"postgresql://lab:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def mlflow_server(store, artifacts, folder, **more):
    """Run MLflow's tracking server in front of a store and yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", artifacts]
    command += ["--port", port, "--workers", 1]
    settings = environment(
        MLFLOW_BACKEND_STORE_URI=store,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        **more,
    )

    def healthy():
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
        return False

    with started(command, healthy, cwd=folder, env=settings):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def s3(folder):
    """Run an S3-compatible server with one bucket and yield what a client must know."""
    pytest.importorskip("moto.server")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    settings = {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with started(command, lambda: _answers(port), cwd=folder, env=environment()):
        import boto3

        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
        client = boto3.client("s3", **dict(zip(names, settings.values(), strict=True)))
        client.create_bucket(Bucket="lab")
        yield settings, client
