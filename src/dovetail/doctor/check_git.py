"""What git holds and should not, or lacks and should hold."""

import shlex
from collections.abc import Iterator

from dovetail.repo.dvc_files import DOCUMENTS
from dovetail.repo.workspace import Workspace
from dovetail.values.finding import Finding

_VIEW = (":(glob)mlflow.db*", "mlruns")


def shallow_clone(workspace: Workspace) -> Iterator[Finding]:
    """History that is not here: what made an older version cannot be told."""
    if workspace.git.is_shallow:
        yield Finding(
            "warning",
            "this clone is shallow",
            "older commits are not here, so that older versions cannot be explained or restored",
            "git fetch --unshallow",
        )


def tracked_view(workspace: Workspace) -> Iterator[Finding]:
    """MLflow's store or the receipts in git: a clone would believe that its own MLflow was filled."""
    if found := [path for path in workspace.git("ls-files", "-z", "--", *_VIEW).split("\0") if path]:
        top = sorted({path.split("/", 1)[0] for path in found})
        typed = " ".join(workspace.typed(path) for path in top)
        yield Finding(
            "error",
            f"git tracks {', '.join(top)}",
            "that is this machine's view: in a clone its receipts would claim registrations that nobody did there",
            f"git rm -r -q --cached {typed} && printf '/mlflow.db*\\n/mlruns/\\n' >> {workspace.typed('.gitignore')}",
        )


def unread_documents(workspace: Workspace) -> Iterator[Finding]:
    """Files of DVC that git knows and that are a folder or empty now: DVC goes on as if there were none."""
    known = workspace.git.ask("ls-files", "-z", "--", *DOCUMENTS).split("\0")
    for path in dict.fromkeys(filter(None, known)):
        file = workspace.root / path
        is_folder = file.is_dir()
        if is_folder or (file.is_file() and not file.read_bytes().strip()):
            typed = workspace.typed(path)
            yield Finding(
                "error",
                f"{path} is {'a folder' if is_folder else 'empty'}",
                "DVC reads nothing from it: what it declared or kept is not there for any command",
                f"{f'rm -r {typed} && ' if is_folder else ''}git checkout HEAD -- {typed}",
            )


def converted_lines(workspace: Workspace) -> Iterator[Finding]:
    """Files that stages read or made and whose line ends git converted: their md5 is no longer the recorded one."""
    steps = workspace.pipeline.stages
    paths = sorted({path for s in steps for path in (*s.deps, *(out.path for out in s.outs if not out.cached))})
    said = workspace.git.ask("ls-files", "--eol", "-z", "--", *paths) if paths else ""
    for about, _, path in (line.partition("\t") for line in said.split("\0") if line):
        in_git, here, *_ = about.split()
        if (in_git, here) == ("i/lf", "w/crlf"):
            typed, rule = workspace.typed(path), shlex.quote(f"/{path} -text")
            yield Finding(
                "error",
                f"git changed the line ends of {path} (core.autocrlf): CRLF here, LF in the commit",
                "its md5 is not the one that dvc.lock records, so that it is refused as changed",
                f"echo {rule} >> {workspace.typed('.gitattributes')} && rm {typed} && git checkout -- {typed}",
            )


def unignored_outputs(workspace: Workspace) -> Iterator[Finding]:
    """Data that DVC keeps and the next `git add` would put into git: a failed repro takes DVC's own lines back."""
    outs = [out.path for step in workspace.pipeline.stages for out in step.outs if out.cached]
    here = [path for path in outs if (workspace.root / path).exists()]
    if not here:
        return
    found = workspace.git.find("-c", "core.quotePath=false", "check-ignore", "--no-index", "--", *here) or ""
    ignored = set(found.splitlines())
    for path in here:
        if path not in ignored:
            line = shlex.quote(f"/{path}")
            yield Finding(
                "warning",
                f"{path} is DVC's, but git does not ignore it",
                "the next `git add` puts the data into git, and DVC then refuses to track it",
                f"echo {line} >> {workspace.typed('.gitignore')}",
            )
