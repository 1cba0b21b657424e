"""Who vouches for what is served: a trust file, git's tags, or nobody but MLflow itself."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from dovetail.repo.binding import Binding, VersionInMlflow, binding
from dovetail.repo.git import Git
from dovetail.repo.ledger_content import read_checked
from dovetail.serving.trust_file import promote_command, read_trust

FILE, LEDGER, NONE = "file", "ledger", "none"


@dataclass(frozen=True, slots=True)
class Vouched:
    """What is known of a version from elsewhere than MLflow.

    Attributes:
        trust: FILE, LEDGER or NONE.
        package: The digest that its package must have, and who says so; None where nobody does.
        direct: Whether the alias or the number that is served was vouched for, not only the same bytes.
        commit: The commit that git's tag names.
        allow: What its pickle may name besides the usual; None where nobody says so.
    """

    trust: str
    package: tuple[str, str] | None = None
    direct: bool = False
    commit: str | None = None
    allow: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What binds a server: `ledger` is the repository whose tags do, `file` a trust file; either may be None."""

    ledger: Path | None
    file: Path | None

    def check(self, shown: VersionInMlflow) -> Vouched:
        """Compare what MLflow says of a version with what each of them says.

        Raises:
            Untrusted: when they disagree, or the trust file does not name it.
            MissingFile: when the trust file cannot be read.
            GitFailed: when git cannot answer.
        """
        tagged = self._tagged(shown)
        if tagged:
            tagged.check(shown)
        filed = read_trust(self.file, shown) if self.file else None
        if self.file and filed:
            filed.check(shown, next_command=promote_command(shown.model, shown.alias, self.file))
        said = [one for one in (filed, tagged) if one]
        return Vouched(
            trust=FILE if filed else LEDGER if tagged else NONE,
            package=next(((one.by, one.package) for one in said if one.package), None),
            direct=any(one.direct for one in said),
            commit=tagged.commit if tagged else None,
            allow=filed.allow if filed else None,
        )

    def _tagged(self, shown: VersionInMlflow) -> Binding | None:
        if self.ledger is None:
            return None
        git = Git(self.ledger)
        try:
            ledger = read_checked(git, partial(_bytes_at, self.ledger))
        finally:
            git.close()
        return binding(ledger, shown, bytes_of=lambda event: _bytes_at(self.ledger, event.model, event.tag.commit))


@lru_cache(maxsize=1024)
def _bytes_at(root: Path, model: str, commit: str) -> str:
    """The digest that a commit records of the model: it stays what it is, so that a server asks once."""
    from dovetail.repo.workspace import open_workspace  # all of DVC: seldom needed, and not by the server

    with open_workspace(root) as workspace:
        return workspace.bytes_at(model, commit)
