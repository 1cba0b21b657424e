"""What `make deploy` writes: an image's files, with the version that an alias names, and what runs it.

    python scripts/deploy.py iris@production build/deploy

The folder gets a Dockerfile and what it copies (the version, checked as a server does, a trust file, the wheel, the
pins), and a Kubernetes manifest and a systemd unit for it. The alias has to stand in git's tags.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from dovetail.errors import DovetailError, OutsideError, Untrusted, UserError, one_line
from dovetail.repo.workspace import open_workspace
from dovetail.serving.batch.version_copy import version_copy
from dovetail.serving.serve import settings
from dovetail.serving.settings import ServeOptions
from dovetail.serving.trust_file import TrustRequest, write_trust
from dovetail.tracking.connection import Tracking

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "deploy"
EXTRAS = "serve,onnx,delta,pipeline"  # what the reference project's models are made of, and what a server takes
OURS = ("Dockerfile", "kubernetes.yaml", "trust.json")  # by which a folder of the last time is known
BUILDERS = ("podman", "docker", "buildah")


def write(ref: str, folder: Path, home: str, image: str) -> None:
    """Fill `folder` with all that an image and its orchestrator need; `home` is the server's folder in the image.

    What it held from the last time goes once all is there.

    Raises:
        DovetailError: when the version is not available, no tag says that it is promoted, or the folder is another's.
    """
    if folder.exists() and any(folder.iterdir()) and not all((folder / name).is_file() for name in OURS):
        raise UserError(
            f"{folder} is not empty, and nothing that make deploy wrote", f"python scripts/deploy.py {ref} build/deploy"
        )
    with TemporaryDirectory(dir=_made(folder.parent), prefix=f".{folder.name}.") as place:
        made = Path(place) / "new"
        made.mkdir()
        _write(ref, made, home, image)
        if folder.exists():
            folder.rename(Path(place) / "old")
        made.rename(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(ref: str, folder: Path, home: str, image: str) -> None:
    asked = settings(ref, ServeOptions(no_log=True))
    if asked.alias is None:
        raise SystemExit(f"{ref} is no alias; next: make deploy TAG={asked.model}#production#1")
    with open_workspace() as workspace:
        try:
            write_trust(
                workspace, Tracking(workspace.store_root), TrustRequest(asked.model, asked.alias, folder / "trust.json")
            )
        except Untrusted as error:  # its advice writes another file
            raise Untrusted(error.message, error.next_command.partition(" --trust ")[0]) from error
    _copy_version(version_copy(asked), folder, Path(home), asked.keep.relative_to(asked.root))
    (folder / "monitoring").mkdir()  # the prediction log, which the image's user writes
    (folder / "monitoring/.gitignore").write_text("*\n", encoding="utf-8")
    shutil.copy(ROOT / "requirements.lock", folder)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        why = one_line((done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1])
        raise OutsideError(f"the wheel cannot be built: {why}", shlex.join(command))
    known = {
        "ref": ref,
        "name": service_name(asked.model),
        "home": home,
        "image": image,
        "wheel": next(folder.glob("*.whl")).name,
        "extras": EXTRAS,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    for template in TEMPLATES.iterdir():
        text = template.read_text(encoding="utf-8")
        for word, value in known.items():
            text = text.replace(f"{{{word}}}", value)
        (folder / template.name).write_text(text, encoding="utf-8")


def service_name(model: str) -> str:
    """A name for the model's Service in Kubernetes: https://kubernetes.io/docs/concepts/overview/working-with-objects/names."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return (name if name[:1].isalpha() else f"model-{name}")[:50].strip("-")


def _copy_version(copy, folder: Path, home: Path, place: Path) -> None:  # noqa: ANN001  (VersionCopy)
    """Put the version where a server in `home` looks for the one that answered last; the trust file vouches for it."""
    name = Path(copy.folder).name
    shutil.copytree(copy.folder, folder / place / name)
    kept = replace(copy, folder=str(home / place / name))
    (folder / place / "last.json").write_text(json.dumps(asdict(kept)), encoding="utf-8")


def build(folder: Path, image: str) -> None:
    """Build the image where there is something to do so, and say so where there is not."""
    for builder in filter(shutil.which, BUILDERS):
        if subprocess.run([builder, "info"], capture_output=True, check=False).returncode == 0:
            command = [builder, "build", "--tag", image, str(folder)]
            sys.exit(subprocess.run(command, check=False).returncode)
    print(f"none of {', '.join(BUILDERS)} answers here; elsewhere: docker build --tag {image} {folder}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ref")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home", default="/srv/dovetail")
    parser.add_argument("--image", default="")
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    image = arguments.image or re.sub(r"[^a-z0-9]+", "-", arguments.ref.lower()).strip("-")
    try:
        write(arguments.ref, arguments.folder, arguments.home, image)
    except DovetailError as error:
        sys.exit(str(error))
    list(yaml.safe_load_all((arguments.folder / "kubernetes.yaml").read_text(encoding="utf-8")))
    if not arguments.no_build:
        build(arguments.folder, image)


if __name__ == "__main__":
    main()
