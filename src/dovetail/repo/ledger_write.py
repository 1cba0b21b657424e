"""A promotion written into the ledger: git's tags in GTO's convention."""

import shlex
from time import time as now

from dovetail.errors import UserError
from dovetail.repo.git import Git
from dovetail.repo.ledger import Ledger
from dovetail.repo.note import Note
from dovetail.repo.tag_names import alias_tag, version_tag
from dovetail.values.registered_name import registered_name


def write(  # noqa: PLR0913  (a tag is made of no fewer)
    git: Git, ledger: Ledger, named: tuple[str, str], commit: str, note: Note, *, made: int = 0
) -> str:
    """Tag `commit` as what `named` names from now on, and as a version if it is none yet.

    Returns the tag's name. `ledger` is what git's tags say now, `named` the model's name in tags and its alias, `made`
    when MLflow made the version: by that clock the tag is not older, however far behind the one of this machine is.

    Raises:
        UserError: when the version that the commit was is taken back: GTO cannot read a second one there.
        TagExists: when somebody else was faster.
        TagRefused: when git cannot make a tag.
    """
    artifact, alias = named
    model = registered_name(artifact.rpartition("=")[2])
    back = [tag for tag, (of, _, sha) in ledger.deregistrations.items() if (of, sha) == (model, commit)]
    if back and not ledger.semver(model, commit):
        what = f"{', '.join(back)} takes {model} of commit {commit[:8]} back, and GTO takes no second version there"
        raise UserError(
            what, f"git tag -d {shlex.join(back)}, here and where it was pushed, then run the same command again"
        )
    last = max((event.time for event in ledger.of(model)), default=0)
    time = max(int(now()), last + 1, made)  # GTO orders tags by their seconds
    name = version_tag(artifact, ledger.semver(model, commit) or ledger.free_semver(model, note.version or 1))
    if name not in ledger.registrations:  # one without the folder in front is none to DVC
        git.tag(name, commit, f"Register {model}: md5 {note.md5}\n", time)
    name = alias_tag(artifact, alias, ledger.counters.get(model, 0) + 1)
    git.tag(name, commit, ledger.consistent(model, note).text(model, alias), time)
    return name
