"""`make deploy`: the image's steps in a clean folder, the manifest by Kubernetes' schema, the unit by systemd."""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import kubernetes_validate
import pytest
import templates
import yaml
from project import ROOT, copy_of, free_port
from serving import Server, point

pytestmark = pytest.mark.slow
UNIT = ROOT / "deploy/dovetail-serve@.service"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A project with version 2 in production, the folder that was written for it, the server's home in the image."""
    project = copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("deploy") / "p")
    home = tmp_path_factory.mktemp("image") / "srv"
    refused = script(project, "m@staging", project.root / "none", home, code=1)
    assert refused.stderr.count("\n") == 1
    assert "--trust" not in refused.stderr  # it would write a file that nobody reads
    project.run("dovetail", "promote", "m", "--version", "2", "--force", "--reason", "a test")
    script(project, "m@production", project.root / "build/deploy", home)
    (project.root / "build/deploy/from-the-last-time").touch()
    script(project, "m@production", project.root / "build/deploy", home)
    assert not (project.root / "build/deploy/from-the-last-time").exists()
    return project, project.root / "build/deploy", home


def script(project, ref, folder, home, code=0, **env):
    command = ["python", str(ROOT / "scripts/deploy.py"), ref, str(folder), "--home", str(home), "--no-build"]
    return project.run(*command, code=code, **env)


def test_a_folder_of_something_else_is_left_alone(deployed):
    project, _, home = deployed
    done = script(project, "m@production", project.root, home, code=1)
    assert "is not empty, and nothing that make deploy wrote" in done.stderr
    assert (project.root / "dvc.yaml").is_file()


def test_a_wheel_that_cannot_be_built_is_one_line_and_what_was_there_stays(deployed, tmp_path):
    project, folder, home = deployed
    before = sorted(folder.iterdir())
    (tmp_path / "hatchling").mkdir()
    (tmp_path / "hatchling/__init__.py").touch()
    (tmp_path / "hatchling/__main__.py").write_text("raise SystemExit('no space left')")
    done = script(project, "m@production", folder, home, code=1, PYTHONPATH=str(tmp_path))
    assert "the wheel cannot be built: no space left; next: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def steps(folder):
    """The instructions of the Dockerfile, in order."""
    text = re.sub(r"^#.*\n", "", (folder / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def follow(folder):
    """Do what the Dockerfile says in an empty folder with a Python of its own; the folder, environment, command."""
    env = {"PATH": "", "LANG": "C.UTF-8"}
    work = user = command = None
    for instruction, said in steps(folder):
        if instruction == "FROM":
            assert said == f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
        elif instruction == "WORKDIR":
            work = Path(said)
            work.mkdir()
            # Packages of the lock are there already, as an image's layer has them: pip checks them, and adds the wheel.
            python = work.parent / "python"
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", python], check=True)
            packages = next(python.glob("lib/*/site-packages"))
            (packages / "lock.pth").write_text(without_the_tree(work.parent / "lock"))
            env["PATH"] = f"{python}/bin:/usr/bin:/bin"
        elif instruction == "COPY":
            *sources, to = [part for part in said.split() if not part.startswith("--")]
            for source in sources:
                place = work / to / (source if to == "./" else "")
                (shutil.copytree if (folder / source).is_dir() else shutil.copy)(folder / source, place)
        elif instruction == "RUN":
            subprocess.run(["/bin/sh", "-c", said], cwd=work, env={**env, "PIP_NO_INDEX": "1"}, check=True)
        elif instruction == "ENV":
            env |= dict(part.split("=", 1) for part in shlex.split(said))
        elif instruction == "USER":
            user = said
        elif instruction == "CMD":
            command = json.loads(said)
        else:
            assert instruction in {"EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert user == "10001:10001"  # not root
    return work, env, command


def without_the_tree(folder):
    """The environment's packages, but not this tree: in an image it is the wheel that is imported."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "dovetail" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return f"{folder}\n"


def test_the_images_steps_make_a_server_that_answers_without_mlflow_and_ends_in_order(deployed):
    _, folder, _ = deployed
    work, env, command = follow(folder)
    assert command[:2] == ["dovetail", "serve"]
    options = ["--port", str(port := free_port()), "--drain", "60"]
    env |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "DOVETAIL_SERVE_TOKENS": "secret"}
    process = subprocess.Popen([shutil.which("dovetail", path=env["PATH"]), *command[1:], *options], cwd=work, env=env,
                               stderr=subprocess.PIPE, start_new_session=True, text=True)  # fmt: skip
    server = Server.__new__(Server)
    server.process, server.port = process, port
    try:
        assert "m@production is version 2, on http://0.0.0.0" in process.stderr.readline()
        assert (server.ask("/ready").status, server.ask("/health").status) == (200, 200)
        assert server.health()["trust"] == "file"
        assert server.predict().status == 401
        answer = server.predict(authorization="Bearer secret")
        assert (answer.status, answer.version) == (200, "2")
        assert str(work) in subprocess.run([f"{work.parent}/python/bin/python", "-c",
            "import dovetail, os; print(os.getcwd(), dovetail.__file__)"], cwd=work, capture_output=True, text=True,
            check=True).stdout  # fmt: skip
        process.send_signal(signal.SIGTERM)
        server.until(lambda: server.ask("/ready").status == 503)
        process.send_signal(signal.SIGTERM)  # no more of that
        assert process.wait(300) == 0
        assert list((work / "monitoring/m/predictions").glob("*.parquet"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("iris", "iris"),
        ("pipelines/Iris", "pipelines-iris"),
        ("3d_shapes", "model-3d-shapes"),
        ("a" * 49 + "_b", "a" * 49),
    ],
)
def test_a_service_has_a_name_that_kubernetes_takes(model, name):
    spec = importlib.util.spec_from_file_location("deploy", ROOT / "scripts/deploy.py")
    deploy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(deploy)
    assert deploy.service_name(model) == name


def test_the_manifest_is_what_kubernetes_schema_says_and_asks_what_the_server_answers(deployed):
    _, folder, home = deployed
    objects = list(yaml.safe_load_all((folder / "kubernetes.yaml").read_text()))
    for each in objects:
        kubernetes_validate.validate(each, "1.31", strict=True)
    assert [each["kind"] for each in objects] == ["Deployment", "Service", "PodDisruptionBudget"]
    pod = objects[0]["spec"]["template"]["spec"]
    server = pod["containers"][0]
    asked = {probe: server[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/health", "readiness": "/ready", "liveness": "/health"}
    assert {"DOVETAIL_SERVE_TOKENS", "DOVETAIL_SERVE_ID_KEY"} <= {one["name"] for one in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] > 10 + 31 + 25  # --drain, --timeout, the log on S3
    assert server["volumeMounts"][0]["mountPath"] == f"{home}/monitoring"
    assert pod["securityContext"]["runAsNonRoot"] is True
    broken = {**objects[1], "spec": {"ports": "none"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_the_unit_is_one_that_systemd_takes(tmp_path):
    program = tmp_path / "dovetail"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name

    def said(text):
        unit.write_text(text.replace("/opt/dovetail/bin/dovetail", str(program)))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        return done.returncode, [line for line in done.stderr.splitlines() if "dovetail" in line]

    assert said(UNIT.read_text()) == (0, [])
    assert said(UNIT.read_text().replace("KillMode=", "KillMod="))[1]


def test_the_units_command_is_one_and_its_service_manager_is_told_when_it_answers(deployed, tmp_path):
    project, _, _ = deployed
    start = re.search(r"^ExecStart=\S+ (serve .*)$", UNIT.read_text(), re.MULTILINE)[1]
    assert start == "serve $MODELS $OPTIONS --takeover"
    point(project, 2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(20)
        with Server(project, "--takeover", "--port", str(free_port()), NOTIFY_SOCKET=str(tmp_path / "n")) as server:
            assert manager.recv(100) == b"READY=1"
            assert server.end() == 0
            assert manager.recv(100) == b"STOPPING=1"
