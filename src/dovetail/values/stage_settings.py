"""What each stage's own process computed with, where that is not what the process of `register` computes with.

Nothing of Dovetail runs in a stage, so this is what can be known without it: the variables that the stage's command
sets, whether a param says that the stage fixes all of it itself, and what a script said that MLflow was imported in.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

from dovetail.values import computing
from dovetail.values.lineage import StageRecord

REPRODUCIBLE = "reproducible"  # the param of a stage that fixes its own threads and kernels
_STAGE = "stage."
_OWN = (
    computing.MACHINE,
    computing.CORES,
    computing.BLAS_KERNEL,
    computing.BLAS_THREADS,
    computing.OPENMP_THREADS,
    computing.JOBLIB_BACKEND,
)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_END = re.compile(r"[;&|()<>]+")


def of_stages(
    stages: Iterable[StageRecord], shared: Mapping[str, str], said: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """A fact for each stage that has settings of its own, `stage.NAME`: its settings, as a shell would read them.

    `shared` is what holds for all stages, `said` what the processes of single stages said, by the stage's name.
    """
    found = {}
    for stage in stages:
        own = {f"{computing.VARIABLE}{name}": value for name, value in set_by(stage.cmd).items()}
        own |= {key: value for key, value in said.get(stage.name, {}).items() if _is_own(key)}
        own = {key: value for key, value in own.items() if shared.get(key) != value}
        if stage.params.get(REPRODUCIBLE) is True:
            own[REPRODUCIBLE] = "true"
        if own:
            found[f"{_STAGE}{stage.name}"] = " ".join(f"{key}={shlex.quote(own[key])}" for key in sorted(own))
    return found


def of_stage(facts: Mapping[str, str], stage: str) -> dict[str, str]:
    """What is recorded of one stage: what holds for all, and its own before it.

    For a stage that fixes its own settings what holds for all is the machine alone.
    """
    shared = {key: value for key, value in facts.items() if not key.startswith(_STAGE)}
    try:
        words = shlex.split(facts.get(f"{_STAGE}{stage}", ""))
    except ValueError:  # written by somebody else
        return shared
    own = {key: value for key, _, value in (word.partition("=") for word in words)}
    if own.get(REPRODUCIBLE) == "true":
        shared = {key: value for key, value in shared.items() if key in (computing.MACHINE, computing.CORES)}
    return shared | own


def fixes_its_own(facts: Mapping[str, str], stage: str) -> bool:
    """Whether the stage computes the same under any setting of its surroundings, by its own param."""
    return of_stage(facts, stage).get(REPRODUCIBLE) == "true"


def parse_settings_tag(tag: str | None) -> dict[str, str]:
    """What a stage's process said in its run's tag; `settings_tag` is the inverse."""
    try:
        facts = json.loads(tag or "{}")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def settings_tag(facts: Mapping[str, str]) -> str:
    """The facts that are a stage's own, as a tag's value."""
    return json.dumps({key: value for key, value in facts.items() if _is_own(key)}, sort_keys=True)


def set_by(cmd: str) -> dict[str, str]:
    """The variables that matter which the command sets: `NAME=value python …`, `env NAME=value …`, `export NAME=value`.

    The last one counts where one is set twice. What the shell would make of `$NAME` nobody knows.
    """
    found: dict[str, str] = {}
    for line in cmd.splitlines():
        for words in _commands(line):
            found |= {name: value for name, value in _assigned(words) if name in computing.VARIABLES}
    return found


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each simple command in a line of shell; none of a line that no shell would take."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    command: list[str] = []
    for word in words:
        if _END.fullmatch(word):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _assigned(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        if match := _ASSIGNMENT.fullmatch(word):
            yield match[1], match[2]
        elif word not in ("env", "export", "exec", "time", "nice", "command"):
            return


def _is_own(key: str) -> bool:
    return key in _OWN or key.startswith(computing.VARIABLE)
