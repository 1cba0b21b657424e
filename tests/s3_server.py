"""A real S3 server on the loopback: SeaweedFS, where `make s3` puts it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from project import free_port

S3 = Path(sys.prefix) / "s3"
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
BUCKET = "data"

is_there = pytest.mark.skipif(not (S3 / "bin/weed").is_file(), reason="there is no S3 server here: make s3")


@contextlib.contextmanager
def s3_server(folder):
    """Its address; it has a bucket `data`."""
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [S3 / "bin/weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
               "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64",
               "-volume.max=10", "-metricsPort=0"]  # fmt: skip
    for name, port in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{ports['s3']}"
    try:
        end = time.monotonic() + 60
        while not _has_bucket(address):
            assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _has_bucket(address):
    try:
        urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=10).close()
    except OSError:
        return False
    return True
