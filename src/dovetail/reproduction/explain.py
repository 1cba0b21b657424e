"""Why a stage that repeats itself made other bytes than recorded: it is run under other threads and kernels to know."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dovetail.reproduction.verdict import Cause
from dovetail.values import computing

Settings = Mapping[str, str | None]  # variables of the environment; None: unset
_SECONDS = 600  # after which no further variant is tried
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_KERNEL = "OPENBLAS_CORETYPE"
THREADS, KERNEL, MACHINE = "threads", "kernel", "machine"


@dataclass(frozen=True, slots=True)
class Question:
    """What a stage made, and under what.

    Attributes:
        expected, actual: The digests of the first output that differs: the recorded one, and the one that came out.
        recorded: What computed the recorded one; empty where that is not known.
        here: What `computing.of_machine` says of this machine.
        used: The settings under which `actual` came out.
    """

    stage: str
    expected: str | None
    actual: str | None
    recorded: Mapping[str, str]
    here: Mapping[str, str]
    used: Settings


def by_settings(question: Question, make: Callable[[Settings], str | None]) -> Cause | None:
    """The cause, if it is threads, a kernel or another kind of machine.

    `make` runs the stage and gives the digest of that output.

    The variant that gives the recorded bytes is named; where none does and some differ, what they differ by is.
    """
    start, moved = time.monotonic(), []
    for kind, settings in variants(question):
        made = make({**question.used, **settings})
        shown = " ".join(f"{name}={value}" for name, value in settings.items() if value)
        if made == question.expected:
            return Cause(
                kind,
                f"{question.stage} makes the recorded bytes with {shown or 'the settings of this machine'}",
                f"set {shown} for {question.stage}: in the environment, or in its cmd in dvc.yaml",
            )
        if made not in (None, question.actual):
            moved.append(kind)
        if time.monotonic() - start > _SECONDS:
            break
    why = computing.unavailable(question.recorded, question.here) if question.recorded else ""
    if not moved:
        detail = f"{question.stage} makes the same bytes under every setting of this machine, and {why}"
        return Cause(MACHINE, detail, "run the same command again on such a machine") if why else None
    what = {THREADS: "number of threads", KERNEL: "kernel of BLAS"}[moved[0]]
    known = "" if question.recorded else ", and which was used is not recorded"
    return Cause(
        moved[0],
        f"{question.stage} makes other bytes with another {what}{known}" + (f"; {why}" if why else ""),
        f"fix them in the cmd of {question.stage} in dvc.yaml, then: dvc repro {question.stage}",
    )


def variants(question: Question) -> Iterator[tuple[str, Settings]]:
    """Other settings, each with what it varies: those of this machine, fewer and more threads, the kernels it has."""
    used, here = question.used, question.here
    if used:
        yield THREADS, dict.fromkeys(used)
    cores = here.get(computing.CORES, "1")
    wanted = (question.recorded.get(computing.OPENMP_THREADS, ""), "1", "2", "4", cores)
    now = used.get(_THREADS[0]) or here.get(f"variable.{_THREADS[0]}") or cores
    for count in dict.fromkeys(n for n in wanted if n.isdigit() and n != now):
        yield THREADS, dict.fromkeys(_THREADS, count)
    for kernel in computing.KERNELS:
        if computing.can_use(kernel, here) and kernel != used.get(_KERNEL):
            yield KERNEL, {_KERNEL: kernel}
