"""What a clean-up reads from texts and object databases, and how it is told: no repository needed."""

from dovetail.cleanup.needs import VersionNeeds
from dovetail.cleanup.references import RemoteRefs, digests, made, named
from dovetail.cleanup.risks import DvcGcKeeps, of_bytes, of_commits, of_git_remotes
from dovetail.render.gc import gc as text
from dovetail.repo.git_values import Commit
from dovetail.repo.objects import Objects

A, B, C = "a" * 32, "b" * 32 + ".dir", "c" * 32
LOCK = f"""schema: '2.0'
stages:
  train:
    cmd: python train.py
    deps:
    - path: data.csv
      hash: md5
      md5: {A}
    outs:
    - path: ../out
      hash: md5
      md5: {B}
"""


def test_every_md5_of_a_text_is_found_and_no_part_of_a_longer_digest():
    assert digests(LOCK + "x" + C + "d" * 32) == {A, B}
    assert digests(f"<<<<<<< ours\n{LOCK}=======\n md5: {C}\n>>>>>>> theirs") == {A, B, C}
    assert made(LOCK) == {B}


def test_paths_are_those_from_the_root():
    assert {(ref.path, ref.md5) for ref in named(LOCK, "sub")} == {("sub/data.csv", A), ("out", B)}
    assert named("stages: [", "") == []


def version(aliases=("production",), commits=(), md5=A):
    return VersionNeeds("m", 2, aliases, md5, frozenset({A}), frozenset(), commits)


def test_dvc_gc_is_judged_by_its_strongest_option_that_takes_something():
    everything = {"working tree": frozenset({A}), "branch": frozenset({B}), "tag": frozenset({C})}
    keepers = DvcGcKeeps.of(everything)
    assert keepers.lost(frozenset({A})) == ""
    assert keepers.lost(frozenset({A, B})) == "-w (-a keeps it)"
    assert keepers.lost(frozenset({B, C})) == "-w and -a (-aT keeps it)"
    assert keepers.lost(frozenset({C, "d" * 32})) == "-w, -a and -T"


def test_bytes_that_are_pushed_are_in_no_danger():
    nobody = DvcGcKeeps.of({})
    assert list(of_bytes({version(): frozenset()}, nobody, "remote store", "dvc push")) == []
    (warning,) = of_bytes({version(): frozenset({A})}, nobody, "remote store", "dvc push")
    assert warning.next == "dvc push"
    everybody = DvcGcKeeps.of({"working tree": frozenset({A})})
    assert list(of_bytes({version(): frozenset({A})}, everybody, None, "dvc push")) == []


def test_a_commit_that_is_in_no_git_remote_is_said_of_named_versions_alone():
    commit = Commit("1" * 40)
    (warning,) = of_commits([version(commits=(commit,))], {commit.sha}, set(), frozenset())
    assert "no git remote" in warning.why
    assert list(of_commits([version((), (commit,))], {commit.sha}, set(), frozenset())) == []
    assert list(of_commits([version(commits=(commit,))], {commit.sha}, None, frozenset())) == []
    assert list(of_commits([version(commits=(commit,))], {commit.sha}, {commit.sha}, frozenset())) == []
    assert [w.next for w in of_commits([version()], set(), None, frozenset({A}))] == ["git add -A && git commit"]


def test_what_a_git_remote_has_blocks_only_the_remotes_clean_up():
    there = RemoteRefs({"origin refs/heads/main": "1" * 40, "origin refs/tags/v1": "2" * 40}, {"backup": "no answer"})
    known = {"1" * 40}
    assert [warning.severity for warning in of_git_remotes(there, known, None)] == ["warning", "warning"]
    assert [warning.severity for warning in of_git_remotes(there, known, "remote store")] == [
        "error",
        "error",
        "warning",
    ]


def test_a_remote_that_is_no_folder_is_listed_with_sizes_and_cleaned():
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.memory import MemoryFileSystem

    fs = MemoryFileSystem(global_store=False)
    place = Objects("remote there", HashFileDB(fs, "/bucket/files/md5"))
    assert place.sizes() == {}
    for md5, content in ((A, b"one"), (B, b'[{"md5": "%s", "relpath": "x"}]' % A.encode()), ("zz" + A[2:], b"?")):
        fs.makedirs(f"/bucket/files/md5/{md5[:2]}", exist_ok=True)
        fs.pipe_file(f"/bucket/files/md5/{md5[:2]}/{md5[2:]}", content)
    assert place.sizes()[A] == len(b"one")
    assert place.sizes().keys() == {A, B}
    assert place.listing(B) == {"x": A}
    assert (place.listing(A), place.listing("d" * 32 + ".dir")) == (None, None)
    place.delete([A, B])
    assert place.sizes() == {}


def test_many_rows_are_told_by_their_number():
    rows = [{"what": f"f{n}", "md5": A, "size": 1500 * n, "why": "why", "where": "cache"} for n in range(30)]
    keep = [{"what": f"m version {n}", "objects": 1, "size": 10} for n in range(30)]
    answer = {"keep": keep, "delete": rows, "bytes": 652_500, "deleted": False, "looked_at": ["cache"], "warnings": []}
    told = text(answer)
    assert "… and 10 smaller ones" in told
    assert "kept for 10 more" in told
    assert (
        told.splitlines()[-1]
        == "would delete, with --force: 30 objects, 652.5 kB; looked at: cache; the remote only with --cloud"
    )
