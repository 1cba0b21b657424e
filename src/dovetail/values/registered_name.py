"""What MLflow's registry calls a model whose name in dvc.yaml it refuses: `pipelines/iris`, or a long one.

One table, one direction: no command needs the way back, for dvc.yaml and git's tags hold the name as it was given.
`docs/adr/0019` says why it is so.
"""

import hashlib
import re

LONGEST = 200  # bytes of a name that is kept as it is; files are called after it, and may have 255
# What DVC and GTO take as the name of an artifact, and git in that of a tag: https://dvc.org/doc/user-guide/project-structure/dvcyaml-files#artifacts
DVC_NAME = re.compile(r"[A-Za-z0-9](?:(?:[A-Za-z0-9_-]|/(?!/))*[A-Za-z0-9])?")
ALLOWED = (
    "it has letters of a to z, digits, '_', '-' and '/' alone, with a letter or a digit at both ends, as DVC has it; "
    f"or '.' in place of '/', and at most {LONGEST} bytes"
)
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*")  # DVC reads names with dots, too, and warns of them
_DIGITS = 32  # of the digest
_SHORTENED = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{{LONGEST - _DIGITS - 1}}}\.[0-9a-f]{{{_DIGITS}}}")


def registered_name(name: str) -> str:
    """The name in MLflow's registry; a name that is one already stays.

    No two names of DVC's have one: none of them holds a dot, and one that is shortened has a byte more than the longest
    that is not.
    """
    plain = name.replace("/", ".")
    if len(plain.encode()) <= LONGEST or _SHORTENED.fullmatch(name):
        return plain
    return f"{plain[: LONGEST - _DIGITS]}.{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"


def can_be_registered(name: str) -> bool:
    """Whether a model of that name in dvc.yaml has one in MLflow's registry, by which a reference can name it."""
    return bool(DVC_NAME.fullmatch(name) or (_PLAIN.fullmatch(name) and len(name.encode()) <= LONGEST))


def possible(name: str) -> str:
    """A name like `name` that a model can have."""
    taken = re.sub(r"[^A-Za-z0-9_./-]+|/(?=/)", "-", name)[:LONGEST].strip("-._/") or "model"
    return taken.replace(".", "-") if "/" in taken else taken
