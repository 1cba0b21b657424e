"""A name that nothing has gets the same sentence everywhere, with the name that is nearest to it."""

import os
import pty
import subprocess

import commands
import pytest

from dovetail.values.names import nearest, unknown


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("lineage model", "this repository has no model or data 'model'; it has: m, data.csv"),
        ("lineage dta.csv", "this repository has no model or data 'dta.csv', did you mean 'data.csv'? It has: "),
        ("lineage m@stagin", "m has no alias 'stagin', did you mean 'staging'? It has: staging"),
        ("lineage M@staging", "MLflow has no model 'M', did you mean 'm'? It has: m"),
        ("lineage m/10", "m has no version 10, did you mean '1'? It has: 1"),
        ("lineage mian:m", "git has no revision 'mian', did you mean 'main'? It has: "),
        ("diff M", "this repository has no model or revision 'M', did you mean 'm'? It has: "),
        ("reproduce M", "MLflow has no model 'M', did you mean 'm'? It has: m"),
        ("reproduce M/1", "MLflow has no model 'M', did you mean 'm'? It has: m"),
        ("monitor M", "this repository has no model 'M', did you mean 'm'? It has: m"),
        ("promote M", "dvc.yaml of the working tree has no model 'M', did you mean 'm'? It has: m"),
        ("promote m --version 3", "m has no version 3; it has: 1"),
        ("register M", "dvc.yaml of the working tree has no model 'M', did you mean 'm'? It has: m"),
        ("history M", "dvc.yaml of the working tree has no model 'M', did you mean 'm'? It has: m"),
        ("history m --alias prodction", "m has no alias 'prodction', did you mean 'production'? It has: "),
        ("rollback M", "dvc.yaml of the working tree has no model 'M', did you mean 'm'? It has: m"),
        ("rollback m --to prodction", "m has no alias 'prodction', did you mean 'production'? It has: "),
        ("write-off M --reason x", "dvc.yaml of the working tree has no model 'M', did you mean 'm'? It has: m"),
        ("write-off m mian --reason x", "git has no revision 'mian', did you mean 'main'? It has: "),
        ("retrain m --with data.csv --from mian", "git has no revision 'mian', did you mean 'main'? It has: "),
        ("retrain m --with data.csv --into dta.csv", "m has no raw table 'dta.csv', did you mean 'data.csv'? It has: "),
        ("doctor --trace trian", "dvc.yaml has no stage 'trian', did you mean 'train'? It has: train, register"),
    ],
)
def test_the_same_sentence_everywhere(registered, command, said):
    done = registered.run("dovetail", *command.split(), code=2)
    assert done.stderr.startswith(f"dovetail: {said}")
    assert "; next: " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_alias_that_nobody_used_is_refused_in_a_pipe_and_taken_when_it_is_said_to_be_new(registered):
    error = registered.json("promote", "m", "--to", "prodction", code=2)["error"]
    assert error["kind"] == "UnknownAlias"
    assert "did you mean 'production'?" in error["message"]
    assert error["next"] == "dovetail promote m --to production; a new one is taken with --yes"
    assert registered.store().aliases() == {"m": {"staging": 1}}
    assert registered.json("promote", "m", "--to", "live", "--yes")["promoted"]
    assert registered.json("promote", "m", "--to", "live")["already"]  # now it is known
    assert registered.json("promote", "m", "--to", "challenger", "--dry-run")["passed"]  # a usual one


@pytest.mark.parametrize(("typed", "aliases"), [("n", {"staging": 1}), ("y", {"staging": 1, "prodction": 1})])
def test_on_a_terminal_it_is_asked(registered, typed, aliases):
    mine, theirs = pty.openpty()
    env = {**os.environ, "PATH": commands.path(plain=False)}
    with subprocess.Popen(
        ["dovetail", "promote", "m", "--to", "prodction"], cwd=registered.root, env=env, stdin=theirs,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as asked:  # fmt: skip
        os.close(theirs)
        os.write(mine, f"{typed}\n".encode())
        said = asked.communicate(timeout=60)[0]
    os.close(mine)
    assert "did you mean 'production'? It has: production, staging. Take the new one? [y/N]" in said
    assert asked.returncode == (0 if typed == "y" else 2)
    assert registered.store().aliases() == {"m": aliases}


def test_the_nearest_name_is_told_whatever_its_case_and_many_names_are_cut():
    assert nearest("Iris", ["iris", "wine"]) == "iris"
    assert nearest("x", ["iris", "wine"]) is None
    assert unknown("m", "version", 40, range(30)).endswith("and 18 more")
    assert unknown("git", "tag", "v1", []) == "git has no tag 'v1'; it has: none"
