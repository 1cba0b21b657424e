"""The ledger: tags in GTO's convention and back, and what an alias names after any run of promotions and steps back."""

from gto.tag import parse_name
from hypothesis import given
from hypothesis import strategies as st

from dovetail.repo.git_values import Tag
from dovetail.repo.ledger import ASSIGN, FORCE, PROMOTE, ROLLBACK, UNASSIGN, Note, read
from dovetail.repo.tag_names import alias_tag, version_tag

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)
NOTES = st.builds(
    Note,
    kind=st.sampled_from([PROMOTE, FORCE, ROLLBACK]),
    version=st.none() | st.integers(1, 999),
    before=st.none() | st.integers(1, 999),
    md5=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    reason=TEXT.map(lambda text: " ".join(text.split())),
    evidence=st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    gates=st.lists(
        st.fixed_dictionaries(
            {"name": TEXT, "passed": st.booleans(), "value": st.none() | st.integers(), "limit": TEXT}
        ),
        max_size=3,
    ).map(tuple),
).filter(lambda note: note.kind != PROMOTE or all(gate["passed"] for gate in note.gates))


@given(NOTES)
def test_a_note_is_read_as_it_was_written(note):
    assert Note.parse(note.text("iris", "production")) == note


def test_a_message_by_somebody_else_is_no_note():
    assert Note.parse("Assigning stage prod to artifact m version v1.0.0") is None


def test_the_names_are_gtos():
    version = parse_name(version_tag("iris", "v3.0.0"))
    alias = parse_name(alias_tag("iris", "production", 2))
    assert (version["name"], version["version"], version["action"].value) == ("iris", "v3.0.0", "register")
    assert (alias["name"], alias["stage"], alias["counter"]) == ("iris", "production", 2)


@given(st.from_regex(r"(f=)?[a-z][a-z0-9-]?(@v[0-9]\.[0-9]\.[0-9]|#[a-z]{1,3}|@x)!?(#[0-9]{1,2})?", fullmatch=True))
def test_a_name_means_what_gto_reads_in_it(name):
    ledger = read([Tag(name, "c" * 40, 1)])
    parsed = parse_name(name, raise_on_fail=False)
    action = parsed["action"].value if parsed else None
    assert bool(ledger.events) == (action in ("assign", "unassign"))
    assert bool([v for versions in ledger.versions.values() for v in versions]) == (action == "register")
    if ledger.events:
        (event,) = ledger.events
        assert (event.alias, event.number) == (parsed["stage"], parsed.get("counter", 0))
        assert event.kind == {"assign": ASSIGN, "unassign": UNASSIGN}[action]


def tags(*told):
    """Tags of model m, alias p: each told as (kind, commit)."""
    made = []
    for number, (kind, commit) in enumerate(told, 1):
        note = Note(kind, int(commit), None, commit * 32) if kind in (PROMOTE, FORCE, ROLLBACK) else None
        name = f"m#p{'!' if kind == UNASSIGN else ''}#{number}"
        made.append(Tag(name, commit * 40, number, message=note.text("m", "p") if note else "by hand"))
    return made


def named(*told):
    ledger = read(reversed(tags(*told)))  # git gives them in no order of time
    current, previous = ledger.current("m", "p"), ledger.previous("m", "p")
    return tuple(event and event.tag.commit[0] for event in (current, previous))


def test_an_alias_names_what_was_promoted_last_and_steps_back_one_at_a_time():
    three = [(PROMOTE, "1"), (ASSIGN, "2"), (FORCE, "3")]
    assert named(*three) == ("3", "2")
    assert named(*three, (ROLLBACK, "2")) == ("2", "1")
    assert named(*three, (ROLLBACK, "2"), (ROLLBACK, "1")) == ("1", None)
    assert named(*three, (ROLLBACK, "2"), (PROMOTE, "3")) == ("3", "2")


def test_an_assignment_taken_back_is_as_if_it_had_not_been():
    assert named((ASSIGN, "1"), (ASSIGN, "2"), (UNASSIGN, "2")) == ("1", None)
    assert named((ASSIGN, "1"), (UNASSIGN, "1")) == (None, None)


def test_the_past_can_be_asked():
    ledger = read(tags((PROMOTE, "1"), (PROMOTE, "2"), (ROLLBACK, "1")))
    assert [ledger.current("m", "p", before=time).tag.commit[0] for time in (1, 2, 3)] == ["1", "2", "1"]
    assert ledger.current("m", "p", before=0) is None


def test_tags_that_are_not_annotated_do_not_count():
    assert read([Tag("m#p#1", "1" * 40, 1, annotated=False)]).events == ()


def test_a_version_takes_the_next_free_number():
    ledger = read([Tag("m@v2.1.0", "2" * 40, 1), Tag("m@v7.0.0", "7" * 40, 2)])
    assert [ledger.free_semver("m", version) for version in (1, 2, 7)] == ["v1.0.0", "v8.0.0", "v8.0.0"]
    assert ledger.semver("m", "2" * 40) == "v2.1.0"
