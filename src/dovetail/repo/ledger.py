"""The ledger of promotions: annotated git tags in GTO's convention, read into events.

`iris@v3.0.0` says which commit a version is, `iris#production#2` which version an alias names from then on
(https://mlem.ai/doc/gto/user-guide). A model of a nested dvc.yaml has its folder in front, counted from git's root, as
DVC and GTO look for it: `pipelines/train=bikes@v1.0.0`. Tags without the folder, as they were once written, are read.
Dovetail's own tags carry what GTO's lack, as trailers of the message.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

from dovetail.repo.git_values import Tag
from dovetail.repo.note import ASSIGN, FORCE, PROMOTE, ROLLBACK, UNASSIGN, Note
from dovetail.repo.tag_names import TagName, parse_name

__all__ = ["ASSIGN", "FORCE", "PROMOTE", "ROLLBACK", "UNASSIGN", "Event", "Ledger", "Note", "read"]

_place = attrgetter("model", "alias", "tag.commit")
Key = TypeVar("Key")
Check = Callable[[Sequence["Event"]], Mapping["Event", str]]  # which events do not fit what git holds, and why


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One assignment of an alias.

    Attributes:
        semver: GTO's version of the commit, if it has one.
        note: What its message says; None for a tag that was made with plain GTO, and for a message that cannot be read.
        problem: What in the tag does not fit the rest of git; such an event moves nothing.
        doubt: Why its number does not count, though its bytes do: another tag gives the number to other bytes.
    """

    model: str
    alias: str
    kind: str
    tag: Tag
    number: int
    semver: str | None
    note: Note | None
    problem: str = ""
    doubt: str = ""

    @property
    def version(self) -> int | None:
        """MLflow's number of the version, as the tag says it; None where that is in doubt."""
        return self.note.version if self.note and not self.doubt else None

    @property
    def time(self) -> int:
        """When the tag was made, in seconds since the epoch; 0 where it does not say."""
        return self.tag.time or 0


@dataclass(frozen=True)
class Ledger:
    """All tags of a repository that follow GTO's convention.

    `events` has those that do not fit, too; every question but `all_events` and `unfit` is answered without them.
    """

    events: tuple[Event, ...] = ()  # oldest first
    # model → semver → commit; "" where tags differ
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)  # model → the highest number that a tag has
    registrations: frozenset[str] = frozenset()  # the names of the tags behind `versions`
    # tag → model, semver, commit of the version that it takes back
    deregistrations: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)

    @cached_property
    def aliases(self) -> dict[tuple[str, str], Event | None]:
        """What each alias of each model names; None where its last assignment was taken back."""
        return {name: stack[-1] if stack else None for name, stack in self._stacks.items()}

    @cached_property
    def doubtful(self) -> tuple[Event, ...]:
        """The events whose number does not count, oldest first."""
        return tuple(event for event in self.events if event.doubt)

    @cached_property
    def unfit(self) -> tuple[Event, ...]:
        """The events that do not fit what git holds and were not taken back, oldest first."""
        gone = {_place(event) for event in self.events if event.kind == UNASSIGN}
        return tuple(event for event in self.events if event.problem and _place(event) not in gone)

    def number(self, model: str, md5: str) -> int | None:
        """The number that the version with these bytes had in MLflow when it was promoted."""
        return next((event.version for event in self._of_bytes.get((model, md5), ()) if event.version), None)

    def package(self, model: str, md5: str) -> Event | None:
        """The last event whose note says what the package of the version with these bytes consists of."""
        found = reversed(self._of_bytes.get((model, md5), []))
        return next((event for event in found if event.note and event.note.package), None)

    def of_bytes(self, model: str, md5: str) -> list[Event]:
        """The events whose note names these bytes and that fit, oldest first."""
        return self._of_bytes.get((model, md5), [])

    def of(self, model: str, alias: str | None = None) -> list[Event]:
        """The events of a model that fit, oldest first."""
        return self._of_model.get(model, []) if alias is None else self._of_alias.get((model, alias), [])

    def all_events(self, model: str, alias: str | None = None) -> list[Event]:
        """All events of a model, oldest first: those that do not fit, too."""
        return [event for event in self.events if event.model == model and alias in (None, event.alias)]

    def current(self, model: str, alias: str, before: int | None = None) -> Event | None:
        """The event that says what the alias names (`before`: named at that time, in seconds since the epoch)."""
        if before is None:
            return self.aliases.get((model, alias))
        stack = _stack(event for event in self.of(model, alias) if event.time <= before)
        return stack[-1] if stack else None

    def previous(self, model: str, alias: str) -> Event | None:
        """What one step back leads to."""
        stack = self._stacks.get((model, alias), [])
        return stack[-2] if len(stack) > 1 else None

    def active_events(self, model: str, commit: str) -> list[Event]:
        """The promotions of this commit that an alias names or can be rolled back to, and those that do not fit."""
        found = (*(event for stack in self._stacks.values() for event in stack), *self.unfit)
        return [event for event in found if (event.model, event.tag.commit) == (model, commit)]

    @cached_property
    def taken_back(self) -> frozenset[tuple[str, str]]:
        """Models and commits of which a tag takes something back and nothing stands."""
        back = {(event.model, event.tag.commit) for event in self.events if event.kind == UNASSIGN}
        back |= {(model, commit) for model, _, commit in self.deregistrations.values()}
        return frozenset(named for named in back if not self.active_events(*named) and not self.semver(*named))

    def semver(self, model: str, commit: str) -> str | None:
        """GTO's version of the commit."""
        return next((name for name, sha in self.versions.get(model, {}).items() if sha == commit), None)

    def free_semver(self, model: str, version: int) -> str:
        """`vN.0.0` for MLflow's version N where it is free, else the next major number that is."""
        gone = [semver for name, semver, _ in self.deregistrations.values() if name == model]
        taken = {int(name[1:].partition(".")[0]) for name in (*self.versions.get(model, {}), *gone)}
        major = version if version not in taken else max(taken) + 1
        return f"v{major}.0.0"

    def consistent(self, model: str, note: Note) -> Note:
        """The note, without a number that was given to other bytes before: a registry that is made anew counts anew."""
        witness = self.versions.get(model, {}).get(f"v{note.version}.0.0")
        claiming = self._of_number.get((model, note.version or 0), [])
        said = {_md5_of(event) for event in claiming if event.tag.commit == witness}
        return replace(note, version=None) if said - {note.md5} else note

    @cached_property
    def _of_number(self) -> dict[tuple[str, int], list[Event]]:
        return _grouped(self.events, lambda event: (event.model, event.version or 0))

    @cached_property
    def _of_model(self) -> dict[str, list[Event]]:
        return _grouped(self.events, lambda event: event.model)

    @cached_property
    def _of_alias(self) -> dict[tuple[str, str], list[Event]]:
        return _grouped(self.events, lambda event: (event.model, event.alias))

    @cached_property
    def _of_bytes(self) -> dict[tuple[str, str], list[Event]]:
        return _grouped(self.events, lambda event: (event.model, event.note.md5 if event.note else ""))

    @cached_property
    def _stacks(self) -> dict[tuple[str, str], list[Event]]:
        return {name: _stack(events) for name, events in self._of_alias.items()}


def read(tags: Iterable[Tag], check: Check = lambda _: {}, prefix: str = "") -> Ledger:
    """The ledger in a repository's tags, those that are no annotated tags in GTO's convention left aside.

    `prefix` is the folder of DVC's root from git's; tags of models in other folders are another project's.
    `check` is given the events that fit by their tags alone, and says which of them what git holds contradicts.
    """
    versions: dict[str, dict[str, str]] = {}
    registrations: dict[tuple[str, str], set[str]] = {}
    deregistrations: dict[str, tuple[str, str, str]] = {}
    counters: dict[str, int] = {}
    named = [(tag, said) for tag in tags if tag.annotated and (said := parse_name(tag.name, prefix))]
    named.sort(key=lambda pair: (pair[0].time or 0, pair[1].number))
    for tag, said in named:
        model, semver = said.model, said.semver
        counters[model] = max(counters.get(model, 0), said.number)
        if semver:
            known = versions.setdefault(model, {})
            if said.cancel:
                known.pop(semver, None)
                registrations.pop((model, semver), None)
                deregistrations[tag.name] = (model, semver, tag.commit)
            elif tag.target == "commit":
                agreed = known.get(semver, tag.commit) == tag.commit
                known[semver] = tag.commit if agreed else ""
                registrations.setdefault((model, semver), set()).add(tag.name)
    names = {model: {sha: name for name, sha in reversed(known.items())} for model, known in versions.items()}
    events = [_event(tag, said, said.alias, names.get(said.model, {})) for tag, said in named if said.alias]
    problems = check([event for event in events if not event.problem])
    checked = [replace(event, problem=problems[event]) if event in problems else event for event in events]
    registered = frozenset(name for names in registrations.values() for name in names)
    return Ledger(tuple(_numbered(checked, versions)), versions, counters, registered, deregistrations)


def _event(tag: Tag, said: TagName, alias: str, semvers: Mapping[str, str]) -> Event:
    """The event that a tag tells, with what does not fit in the tag itself."""
    note, problem = None, ""
    try:
        note = None if said.cancel else Note.parse(tag.message)
    except ValueError as error:
        problem = str(error)
    if tag.target != "commit":
        problem = f"it names a {tag.target}, not a commit"
    elif not tag.time:
        problem = "its date is not valid"
    kind = UNASSIGN if said.cancel else note.kind if note else ASSIGN
    return Event(said.model, alias, kind, tag, said.number, semvers.get(tag.commit), note, problem)


def _numbered(events: Sequence[Event], versions: Mapping[str, Mapping[str, str]]) -> Iterable[Event]:
    """The events, those marked that give a version's number to other bytes than another one does.

    Dates decide nothing: whoever makes a tag writes its date. `m@v3.0.0` is the witness: no other tag has its name. One
    with another folder in front and another commit makes both void. A number that has no witness counts for none.
    """
    claims: dict[tuple[str, int], list[Event]] = {}
    for event in events:
        if event.version and not event.problem:
            claims.setdefault((event.model, event.version), []).append(event)
    marked: dict[Event, Event] = {}
    for (model, number), claiming in claims.items():
        if len({_md5_of(event) for event in claiming}) > 1:
            witness = versions.get(model, {}).get(f"v{number}.0.0")
            marked |= _contested(number, claiming, [event for event in claiming if event.tag.commit == witness])
    return [marked.get(event, event) for event in events]


def _contested(number: int, claiming: Sequence[Event], witnessed: Sequence[Event]) -> dict[Event, Event]:
    """The events that give one number to several bytes, as far as they are wrong or in doubt."""
    if len({_md5_of(event) for event in witnessed}) == 1:
        first = witnessed[0]
        said = f"Dovetail-Version is {number}, which is md5 {_md5_of(first)[:8]} in {first.tag.name}"
        wrong = [event for event in claiming if _md5_of(event) != _md5_of(first)]
        return {event: replace(event, problem=f"{said}, not {_md5_of(event)[:8]}") for event in wrong}
    names = {_md5_of(event): event.tag.name for event in reversed(claiming)}
    said = " and ".join(f"md5 {md5[:8]} in {name}" for md5, name in names.items())
    return {event: replace(event, doubt=f"Dovetail-Version {number} is {said}") for event in claiming}


def _md5_of(event: Event) -> str:
    return event.note.md5 if event.note else ""


def _grouped(events: Iterable[Event], key: Callable[[Event], Key]) -> dict[Key, list[Event]]:
    found: dict[Key, list[Event]] = {}
    for event in events:
        if not event.problem:
            found.setdefault(key(event), []).append(event)
    return found


def _stack(events: Iterable[Event]) -> list[Event]:
    """What an alias names, on top of what it would name after each step back."""
    stack: list[Event] = []
    of_commit: dict[str, list[Event]] = {}
    gone: set[Event] = set()  # taken back, and not yet off the stack
    for event in events:
        if event.kind == UNASSIGN:
            gone.update(of_commit.pop(event.tag.commit, ()))
            continue
        for _ in range(2 if event.kind == ROLLBACK else 0):
            while stack and stack[-1] in gone:
                stack.pop()
            if stack:
                stack.pop()
        stack.append(event)
        of_commit.setdefault(event.tag.commit, []).append(event)
    return [event for event in stack if event not in gone]
