"""Every error that Dovetail raises on purpose.

DovetailError               names the thing, its value and the next command
├── UserError               exit code 2: the user must change something
│   ├── NotARepository      no DVC repository here
│   ├── UnknownModel        no such model is declared
│   ├── UnknownStage        no such stage is in dvc.yaml
│   ├── UnknownReference    a REF that names nothing
│   │   └── UnknownAlias    an alias that nobody ever used
│   ├── MissingFile         a declared file is not there
│   ├── StaleLock           the workspace is not what dvc.lock records
│   ├── MissingPackage      what an extra of dovetail-ml brings is not installed
│   ├── PipelineFailed      a stage refused the rows that were added
│   └── NothingBehind       a rollback without a step to go back
├── Interrupted             exit code 130: somebody asked it to end
├── Defect                  exit code 3: Dovetail's own fault, with a traceback
└── OutsideError            exit code 3: something outside failed
    ├── StoreError          MLflow's store did not answer or refused
    │   ├── ForeignStore    its files are another repository's, or where it was before
    │   └── NotPermitted    MLflow's server does not know this user, or does not let it do that
    ├── DataUnavailable     bytes that are in no cache, and in no remote that answers
    │   └── DataMissing     the remote answers, and has none either
    ├── BuildFailed         an environment could not be built from its lock file
    ├── Untrusted           MLflow shows another version than git's tag or a trust file names
    ├── Busy                another Dovetail process holds the lock
    │   └── TurnLost        another clone took over while this process did not run
    ├── Overtaken           somebody else promoted while the gates ran
    ├── TagExists           somebody else made the tag first
    ├── TagRefused          git cannot make a tag
    └── GitFailed           git cannot answer
"""

_LONGEST = 300


def one_line(error: BaseException | str) -> str:
    """What an error or a program says, on one line that a terminal can show."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def _escaped(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class DovetailError(Exception):
    """A message of one line; `next_command` is what to type to go on.

    What a terminal would not show, or act on, in a name or a value that the message quotes, stands escaped in it.
    """

    exit_code = 3

    def __init__(self, message: str, next_command: str) -> None:
        super().__init__(message, next_command)
        self.message = message if message.isprintable() else _escaped(message)
        self.next_command = next_command

    def __str__(self) -> str:
        return f"{self.message}; next: {self.next_command}"

    @property
    def kind(self) -> str:
        """The class's name, for programs that read `--json`."""
        return type(self).__name__


class UserError(DovetailError):
    """The user must change something."""

    exit_code = 2


class NotARepository(UserError):
    """There is no DVC repository here."""


class UnknownModel(UserError):
    """No such model is declared in dvc.yaml."""


class UnknownStage(UserError):
    """No such stage is in dvc.yaml."""


class UnknownReference(UserError):
    """A REF that names nothing: no model, version, run, commit or data."""


class UnknownAlias(UnknownReference):
    """An alias that nobody ever used, and that is none of the usual ones."""


class MissingFile(UserError):
    """A declared file is not there, or cannot be read as what it is."""


class StaleLock(UserError):
    """The workspace is not what dvc.lock records."""


class MissingPackage(UserError):
    """What an extra of dovetail-ml brings is not installed."""


class PipelineFailed(UserError):
    """A stage refused the rows that were added."""


class NothingBehind(UserError):
    """There is no step to go back."""


class Interrupted(DovetailError):
    """Ctrl-C, or a signal that asks to end."""

    exit_code = 130


class Defect(DovetailError):
    """What no code of Dovetail expected: its own fault, whatever it came upon."""

    def __init__(self, error: BaseException) -> None:
        what = f"a defect of Dovetail: {type(error).__name__}: {one_line(error)}"
        super().__init__(what, "dovetail doctor, and report what stands above")


class OutsideError(DovetailError):
    """Something outside failed."""


class StoreError(OutsideError):
    """MLflow's store did not answer, or refused."""


class ForeignStore(StoreError):
    """MLflow's store names files in another folder: the repository was moved or copied."""


class NotPermitted(StoreError):
    """MLflow's server does not know this user, or does not let it do that."""


class DataUnavailable(OutsideError):
    """Bytes that are in no cache and no remote that answers."""


class DataMissing(DataUnavailable):
    """Bytes that are in no cache and no remote, for certain."""


class BuildFailed(OutsideError):
    """An environment could not be built from its lock file."""


class Untrusted(OutsideError):
    """What MLflow shows of a version is not what git's tag or a trust file names."""


class Busy(OutsideError):
    """Another Dovetail process holds the lock."""


class TurnLost(Busy):
    """Another clone took over what this process held while it did not run."""


class Overtaken(OutsideError):
    """Somebody else promoted while the gates ran."""


class TagExists(OutsideError):
    """Somebody else made the tag first."""


class TagRefused(OutsideError):
    """Git cannot make a tag."""


class GitFailed(OutsideError):
    """Git cannot answer: a broken repository, or one that it does not trust."""
