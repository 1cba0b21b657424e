"""The workspace's model beside the version that `staging` names, and beside the data that it was made of."""

from collections.abc import Iterator

from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from dovetail.registration import notes
from dovetail.repo.dvc_values import Model
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Version
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage
from dovetail.values.reference import STAGING


def changed_sources(workspace: Workspace, lineage: Lineage) -> Iterator[Finding]:
    """Files that .dvc files keep, that the model was made of, and that are not what is recorded."""
    tree = workspace.tree
    for ref in notes.unrecorded_sources(workspace, lineage):
        file = tree.tracked[ref.path].file
        now = tree.file(ref.path)
        what = f"{ref.path} ({notes.how(workspace, ref, now)}, md5 {now.md5}) is not what {file} records ({ref.md5})"
        next_command = f"dvc repro, or to take the recorded file back: {tree.taking_back(ref)}"
        yield Finding("error", f"{what}, which the model is made of", "", next_command)


def behind_or_ahead(
    workspace: Workspace, model: Model, lineage: Lineage, here: int, staged: Version | None
) -> Finding | None:
    """Why `staging` names another version than the workspace's, and what changes that."""
    if staged is None or staged.md5 in (None, lineage.artifact.md5):
        return None
    what = f"the workspace is version {here}, @{STAGING} is version {staged.number}"
    promoting = f"dovetail promote {model.name} --version {here} --to {STAGING}"
    if (model.name, STAGING) in workspace.ledger.aliases:
        return Finding("error", f"{what}, as git's tags say", "", promoting)
    if staged.number > here:
        branch = _branch_with(workspace, staged.md5 or "")
        if branch:
            return Finding("error", f"{what}, made on {branch}", "", f"git merge {branch} && dvc checkout")
        return Finding("error", what, "", promoting)
    if refusing := _refusing(workspace, model, lineage):
        next_command = f"improve {model.name}, or move its gates in git; then: dvc repro"
        return Finding("error", f"{what}: the workspace's does not pass {', '.join(refusing)}", "", next_command)
    return Finding("error", what, "", f"dovetail register {model.name}")


def _branch_with(workspace: Workspace, md5: str) -> str | None:
    """A branch other than HEAD's whose tip or history has the bytes, where HEAD's has not."""
    for commit in workspace.commits_with(md5, experiments=False):
        if workspace.git.reaches(commit.sha):
            return None
        places = ("refs/heads", "refs/remotes")
        names = workspace.git("for-each-ref", f"--contains={commit.sha}", "--format=%(refname:short)", *places).split()
        if names:
            return names[0]
    return None


def _refusing(workspace: Workspace, model: Model, lineage: Lineage) -> list[str]:
    """The gates that numbers answer and that the workspace's model does not pass."""
    try:
        metrics = workspace.tree.metrics(model, lineage)
        evidence = Evidence(metrics, has_signature=workspace.tree.card(model) is not None)
        return [verdict.name for verdict in rules.evaluate(model.gates, evidence) if not verdict.passed]
    except DovetailError:  # `register` says what is wrong with them
        return []
