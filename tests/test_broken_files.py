"""Files that people break, times commands: one line or an answer, never a traceback."""

from collections import Counter

import pytest
import templates
from broken_files import Broken, cases
from fuzzing import drawn
from project import copy_of

from dovetail.errors import UserError
from dovetail.repo.dvc_repo import DvcRepo


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        templates.isolate(tmp_path_factory, patch)
        project = copy_of(templates.judged(tmp_path_factory), tmp_path_factory.mktemp("broken") / "judged")
        yield Broken.of(project)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.filterwarnings("default")
def test_no_command_ends_in_a_traceback_whatever_a_file_holds(broken, monkeypatch, request):
    """The safety net of the command line is off here; `--fuzz-cases` runs more of them, `--fuzz-seed` others."""
    monkeypatch.chdir(broken.root)
    found, first = Counter(), {}

    @drawn(request.config, cases(broken.texts))
    def run(case):
        verb, file, old, content = case
        with broken.broken(file, content, old=old):
            wrong = broken.asked(verb)
        if wrong:
            found[wrong] += 1
            first.setdefault(wrong, (verb, file, old, content[:300]))

    run()
    assert not found, "\n".join(f"{count:4} x {wrong}\n       {first[wrong]}" for wrong, count in found.most_common())


def test_what_our_code_raises_while_dvc_is_asked_is_no_word_of_dvc(small):
    dvc = DvcRepo(small.root)
    with pytest.raises(KeyError), dvc.asked():
        {}["a bug of ours"]
    with pytest.raises(TypeError), dvc.asked():
        dvc.opened.root_dir + 1
    with pytest.raises(UserError, match="DVC refuses"), dvc.asked():
        dvc.opened.find_outs_by_path(5)
    dvc.close()
