"""Workers that share no file system with the repository: what they read and make goes by a real S3 server."""

import subprocess

import pytest
from pipelines import SHAPES
from project import Project
from s3_server import KEYS, S3, is_there, s3_server
from test_repro import cluster, made, run_cache

pytestmark = [pytest.mark.stack, pytest.mark.slow, is_there]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The address of a server of S3, which has a bucket `data`."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.mark.parametrize("shape", ["folders as outs", "dvc add"])
def test_what_workers_elsewhere_make_comes_home_by_s3(shape, bucket, tmp_path, monkeypatch):
    root = tmp_path / "side"
    apart = f"unshare -m sh -c 'mount -t tmpfs none {root} && {{}}'"
    root.mkdir()
    if subprocess.run(apart.format("true"), shell=True, check=False, capture_output=True).returncode:
        pytest.skip("no folder can be hidden from a process here")
    for name, value in {"PYTHONPATH": str(S3), **KEYS}.items():
        monkeypatch.setenv(name, value)
    files, commands = SHAPES[shape]
    plain, side = Project(tmp_path / "plain"), Project(root)
    plain.root.mkdir()
    for project in (plain, side):
        project.run("git", "init", "-q")
        project.run("dvc", "init", "-q")
        project.run("dvc", "remote", "add", "-q", "-d", "store", f"s3://data/{tmp_path.name}")
        project.run("dvc", "remote", "modify", "-q", "store", "endpointurl", bucket)
        for path, text in files.items():
            project.write(path, text)
        for command in commands:
            project.run(*command)
    with cluster(tmp_path, apart, apart) as (address, _):
        answer = side.json("repro", "--cluster", address)
    plain.run("dvc", "repro")
    assert made(side.root) == made(plain.root)
    assert run_cache(side.root) == run_cache(plain.root)
    ran = [stage["worker"] for stage in answer["stages"] if stage["how"] == "ran"]
    assert ran
    assert all(worker.startswith("tcp://") for worker in ran)
