"""Every fact that Dovetail tags in MLflow, by one key each, and the way back from a run's tags.

Most of these keys are not those that a store has: `tag_layout` says where each fact is kept. They are what every
reader sees, and what older versions of Dovetail wrote.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dovetail.joblib_model import ALLOW_KEY, MD5_KEY

FINGERPRINT = "dovetail.fingerprint"
MODEL_MD5 = MD5_KEY  # named in the loader, which travels alone
MODEL_VALUE = "dovetail.model.value"  # the digest of what the model is, beside that of its bytes
DATA_PREFIX = "dovetail.data."
GIT_COMMIT = "dovetail.git.commit"
GIT_DIRTY = "dovetail.git.dirty"
DVC_STAGE = "dovetail.dvc.stage"
DVC_EXPERIMENT = "dovetail.dvc.experiment"
DVC_INPUTS = "dovetail.dvc.inputs"
DVC_EXECUTION = "dovetail.dvc.execution"
ENV_MD5 = "dovetail.env.md5"
COMPUTING = "dovetail.computing"  # on a run that a script opened: what its process computed with
COMPUTING_MD5 = "dovetail.computing.md5"  # of the machine, libraries, threads and variables in environment.txt
SKIPPED = "dovetail.skipped"  # on a version that was made to use up its number, and deleted
REPRODUCE_VERDICT = "dovetail.reproduce.verdict"
REPRODUCE_TIME = "dovetail.reproduce.time"
REPRODUCE_ENV_MD5 = "dovetail.reproduce.env.md5"
REPRODUCE_ENV_CHANGED = "dovetail.reproduce.env.changed"
MONITOR_VERSION = "dovetail.monitor.version"  # on the run that a version's monitoring adds to
MONITOR_VERDICT = "dovetail.monitor.verdict"
MONITOR_TIME = "dovetail.monitor.time"
MONITOR_RUN = "dovetail.monitor.run"
TRIAL = "dovetail.trial"  # its number, on the run of a trial below the model's run
TURN_OWNER = "dovetail.turn.owner"  # on the registered model that stands for a turn to write: the clone that has it
TURN_HOLDER = "dovetail.turn.holder"  # and which of its processes
TURN_BEAT = "dovetail.turn.beat"  # and that it is alive
SIGNATURE = "dovetail.signature"
PICKLE_ALLOW = ALLOW_KEY
BOOLEANS = "dovetail.booleans"  # in MLmodel: the columns of numbers that stand for true and false
ONNX = "dovetail.onnx"
ONNX_MD5 = "dovetail.onnx.md5"
PACKAGE = "dovetail.package"  # the digest of all that the version's package consists of
COMMITTED = "mlflow.dovetail.committed"  # on a run: the commit that is known to hold it
CLAIMED = "mlflow.dovetail.readable"  # the readable keys that are Dovetail's on this run or version
NOTE = "mlflow.note.content"  # MLflow's own: a run's description
COMPILED_FILE = "compiled/model.onnx"  # in the version's files, beside MLmodel
ONNX_SAME = "same on"  # how ONNX begins where the compiled model may be used

_SIGNATURE = {True: "from the card", False: "none: the model has no card"}

_NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]")  # of a tag, a param or a metric: MLflow refuses these characters
_LONGEST = 250  # characters that MLflow takes for one
_CODED = re.compile(r".*:[0-9a-f]{16}", re.DOTALL)


def shown_name(key: str) -> str:
    """The name under which MLflow shows the param or metric `key`; one that is too long ends in a digest of it."""
    name = _NOT_IN_A_NAME.sub("_", key)
    return name if _is_taken(name) else _coded(key)


def coded_path(path: str) -> str:
    """A path that is too long for a tag: its end, and a digest of it."""
    return _coded(path, _LONGEST - len(DATA_PREFIX))


def _former_key(path: str) -> str:
    """The key of the tag that a data file had of its own: with its path in it, or the most that MLflow took of it."""
    key = DATA_PREFIX + path
    if _is_taken(key) and not _NOT_IN_A_NAME.search(key) and not _CODED.fullmatch(key):
        return key
    return DATA_PREFIX + coded_path(path)


def _is_taken(name: str) -> bool:
    """Whether MLflow takes a name of these characters: it is to be short, and no path that means another one."""
    return len(name) <= _LONGEST and posixpath.normpath(name) == name and not name.startswith(("/", ".."))


def _coded(text: str, longest: int = _LONGEST) -> str:
    """What is readable of `text`, its end first, and a digest that no other text has."""
    digest = f":{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"
    readable = re.sub("/(?=/)|^[/.]+", "", _NOT_IN_A_NAME.sub("_", text)[len(digest) - longest :])
    return posixpath.normpath(readable or "_") + digest


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run or a version came from; `tags` and `parse` are inverses."""

    fingerprint: str
    model_md5: str
    data: Mapping[str, str]  # path → md5
    env_md5: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    stage: str | None = None
    experiment: str | None = None
    signature: bool | None = None  # whether a card describes what the model takes and gives
    value: str | None = None  # the digest of what the model is, whatever its bytes are
    computing_md5: str | None = None

    def tags(self) -> dict[str, str]:
        """The tags that say it; what is not known has no tag."""
        tags = {
            FINGERPRINT: self.fingerprint,
            MODEL_MD5: self.model_md5,
            GIT_COMMIT: self.commit,
            GIT_DIRTY: None if self.dirty is None else str(self.dirty).lower(),
            DVC_STAGE: self.stage,
            DVC_EXPERIMENT: self.experiment,
            ENV_MD5: self.env_md5,
            SIGNATURE: None if self.signature is None else _SIGNATURE[self.signature],
            MODEL_VALUE: self.value,
            COMPUTING_MD5: self.computing_md5,
        }
        data = {DATA_PREFIX + path: md5 for path, md5 in self.data.items()}
        return {key: value for key, value in tags.items() if value is not None} | data

    @staticmethod
    def signature_in(tags: Mapping[str, str]) -> bool | None:
        """Whether a card describes the model, as the tags say it; None where they do not."""
        return {text: has for has, text in _SIGNATURE.items()}.get(tags.get(SIGNATURE, ""))

    @classmethod
    def parse(cls, tags: Mapping[str, str], paths: Iterable[str] = ()) -> "Provenance | None":
        """What the tags say, other people's tags left aside; None when they are not Dovetail's.

        `paths` are those of the lineage: a key that does not hold the whole of its path is read by them.
        """
        if FINGERPRINT not in tags or MODEL_MD5 not in tags:
            return None
        known = {_former_key(path): path for path in paths}
        return cls(
            fingerprint=tags[FINGERPRINT],
            model_md5=tags[MODEL_MD5],
            data={
                known.get(key, key.removeprefix(DATA_PREFIX)): md5
                for key, md5 in tags.items()
                if key.startswith(DATA_PREFIX)
            },
            env_md5=tags.get(ENV_MD5),
            commit=tags.get(GIT_COMMIT),
            dirty={"true": True, "false": False}.get(tags.get(GIT_DIRTY, "")),
            stage=tags.get(DVC_STAGE),
            experiment=tags.get(DVC_EXPERIMENT),
            signature=cls.signature_in(tags),
            value=tags.get(MODEL_VALUE),
            computing_md5=tags.get(COMPUTING_MD5),
        )


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The last attempt to rebuild a version; `tags` and `parse` are inverses."""

    verdict: str
    time: str  # ISO 8601, UTC
    env_md5: str  # "none" when nothing could be run
    env_changed: str  # "numpy 2.1 → 2.2, …", "nothing", or "unknown" where there was nothing to compare

    def tags(self) -> dict[str, str]:
        """The tags that say it, none of them ever absent: the next attempt's replace them all."""
        return {
            REPRODUCE_VERDICT: self.verdict,
            REPRODUCE_TIME: self.time,
            REPRODUCE_ENV_MD5: self.env_md5,
            REPRODUCE_ENV_CHANGED: self.env_changed,
        }

    @classmethod
    def parse(cls, tags: Mapping[str, str]) -> "Reproduction | None":
        """What the tags say; None where no attempt is tagged."""
        names = (REPRODUCE_VERDICT, REPRODUCE_TIME, REPRODUCE_ENV_MD5, REPRODUCE_ENV_CHANGED)
        return cls(*(tags[name] for name in names)) if all(name in tags for name in names) else None


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The last look at what a version answers; `tags` and `parse` are inverses."""

    verdict: str
    time: str  # ISO 8601, UTC
    run: str  # the id of the run that has its metrics over time

    def tags(self) -> dict[str, str]:
        """The tags that say it."""
        return {MONITOR_VERDICT: self.verdict, MONITOR_TIME: self.time, MONITOR_RUN: self.run}

    @classmethod
    def parse(cls, tags: Mapping[str, str]) -> "Monitoring | None":
        """What the tags say; None where nobody has looked."""
        names = (MONITOR_VERDICT, MONITOR_TIME, MONITOR_RUN)
        return cls(*(tags[name] for name in names)) if all(name in tags for name in names) else None
