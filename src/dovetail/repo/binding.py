"""What git's tags say that a version consists of: what MLflow shows of it has to be that, or is not trusted."""

from collections.abc import Callable
from dataclasses import dataclass

from dovetail.errors import Untrusted
from dovetail.repo.ledger import Event, Ledger


@dataclass(frozen=True, slots=True)
class VersionInMlflow:
    """What MLflow shows: a version's number and its model's md5, asked for by an alias or, without one, by number."""

    model: str
    alias: str | None
    number: int
    md5: str

    @property
    def what(self) -> str:
        """As a user types it."""
        return f"{self.model}@{self.alias}" if self.alias else f"{self.model}/{self.number}"


@dataclass(frozen=True, slots=True)
class Binding:
    """What a version has to be.

    Attributes:
        by: Who says so, as a message names it: a tag, a file.
        md5: Of the model's bytes; empty where nothing may stand there.
        package: The digest of all that it consists of; empty where that is not known.
        version: Its number when that was said.
        direct: Whether it was said of this alias or version itself, not only of the same bytes elsewhere.
        commit: The commit that was tagged.
        allow: What its pickle may name besides the usual; None where nothing says so.
    """

    by: str
    md5: str
    package: str = ""
    version: int | None = None
    direct: bool = True
    commit: str | None = None
    allow: tuple[str, ...] | None = None

    def check(self, shown: VersionInMlflow, *, next_command: str | None = None) -> None:
        """Compare with what MLflow shows.

        Raises:
            Untrusted: when it is another one; `next_command` is what to type then.
        """
        if shown.md5 == self.md5:
            return
        said = f"md5 {self.md5}" if self.md5 else "nothing"
        repair = "dovetail sync --repair" if shown.number == self.version else "dovetail sync"
        raise Untrusted(
            f"{shown.what} is version {shown.number} in MLflow (md5 {shown.md5}), and {self.by} names {said}",
            next_command or repair,
        )


def binding(ledger: Ledger, shown: VersionInMlflow, *, bytes_of: Callable[[Event], str]) -> Binding | None:
    """What the ledger says of what MLflow shows; None where it says nothing.

    `bytes_of` gives the digest of an assignment that plain GTO made: its tag has no note.
    """
    model, alias = shown.model, shown.alias
    if alias and (events := ledger.of(model, alias)):
        event = ledger.current(model, alias)
        if event is None:  # taken back
            return Binding(f"the tag {events[-1].tag.name}", "")
        return _of(ledger, event, event.note.md5 if event.note else bytes_of(event))
    noted = [event for event in reversed(ledger.of(model)) if event.note]
    same = [event for event in noted if event.note and event.note.md5 == shown.md5]
    numbered = [event for event in noted if event.version == shown.number]
    both = [event for event in same if event in numbered]
    # A number that is typed means that version; numbers change where a registry is made anew, and aliases with them.
    found = next(iter([*both, *same, *numbered] if alias else [*both, *numbered, *same]), None)
    if found is None or found.note is None:
        return None
    return _of(ledger, found, found.note.md5, direct=alias is None and found in numbered)


def _of(ledger: Ledger, event: Event, md5: str, *, direct: bool = True) -> Binding:
    own = event.note.package if event.note else ""
    noted = [other.note for other in reversed(ledger.of(event.model)) if other.note and other.note.md5 == md5]
    package = own or next((note.package for note in noted if note.package), "")  # a rollback says only which bytes
    return Binding(f"the tag {event.tag.name}", md5, package, event.version, direct, event.tag.commit)
