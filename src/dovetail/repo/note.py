"""What the message of a promotion's tag carries, as trailers; anybody can write one, so each field is checked."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROMOTE, FORCE, ROLLBACK = "promote", "force", "rollback"  # written here
ASSIGN, UNASSIGN = "assign", "unassign"  # made with plain GTO: no gates, no evidence

_TRAILER = re.compile(r"^Dovetail-([\w-]+): ?(.*)$", re.MULTILINE | re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")  # a version above a million is no count of what was registered
_FORMS = {
    "Kind": re.compile(f"{PROMOTE}|{FORCE}|{ROLLBACK}"),
    "Version": _NUMBER,
    "From": _NUMBER,
    "Model-Md5": re.compile(r"[0-9a-f]{32}(\.dir)?"),
    "Model-Value": re.compile(r"v[0-9]{1,3}:[0-9a-f]{32}"),
    "Package": re.compile(r"[0-9a-f]{64}"),
    "Evidence": re.compile(r"[0-9a-f]{64}"),
}
_KNOWN = {*_FORMS, "Requirements", "Allow", "Reason", "Gates"}
_SHOWN = 40  # characters of a value that does not fit


@dataclass(frozen=True, slots=True)
class Note:
    """What the message of a tag carries; `text` and `parse` are inverses.

    Attributes:
        kind: One of PROMOTE, FORCE, ROLLBACK.
        version: MLflow's number of the version that the alias names now; None where MLflow could not be asked.
        before: The one that it named before, if any.
        md5: The digest of the model's bytes.
        reason: Why, in somebody's words; one line.
        evidence: The sha256 of the evidence that is kept with the version's run.
        gates: Each gate's name, verdict, value and limit.
        package: The digest of all that the version's package consists of; empty in tags from before it was kept.
        requirements: The pins in that package, so that it can be restored to the same digest anywhere.
        allow: Names that the model may name by a later commit than its own, for the same reason.
        value: The digest of what the model is, whatever its bytes are; empty where nobody could tell.
    """

    kind: str
    version: int | None
    before: int | None
    md5: str
    reason: str = ""
    evidence: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()
    package: str = ""
    requirements: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    value: str = ""

    def text(self, model: str, alias: str) -> str:
        """The message of a tag."""
        did = {PROMOTE: "Promote", FORCE: "Promote, against its gates,", ROLLBACK: "Roll back"}[self.kind]
        now = f"version {self.version}" if self.version else f"md5 {self.md5}"
        was = f" (it was version {self.before})" if self.before else ""
        trailers = {
            "Kind": self.kind,
            "Version": self.version,
            "From": self.before,
            "Model-Md5": self.md5,
            "Model-Value": self.value,
            "Package": self.package,
            "Requirements": " ".join(self.requirements),
            "Allow": " ".join(self.allow),
            "Reason": " ".join(self.reason.split()),
            "Evidence": self.evidence,
            "Gates": json.dumps([dict(gate) for gate in self.gates]) if self.gates else "",
        }
        lines = [f"Dovetail-{key}: {value}" for key, value in trailers.items() if value not in (None, "")]
        return "\n".join([f"{did} {model} to {alias}: {now}{was}", "", *lines, ""])

    @classmethod
    def parse(cls, message: str) -> "Note | None":
        """What a message carries; None for one that Dovetail did not write.

        Raises:
            ValueError: naming the first trailer that Dovetail does not write so.
        """
        told = [(key, value.strip()) for key, value in _TRAILER.findall(message) if key in _KNOWN]
        if not told:
            return None
        found = dict(told)
        for key, value in told:
            if found[key] != value:
                raise ValueError(f"Dovetail-{key} is given twice")
            if key in _FORMS and not _FORMS[key].fullmatch(value):
                raise ValueError(f"Dovetail-{key} is {_short(value)}")
        for key in ("Kind", "Model-Md5"):
            if key not in found:
                raise ValueError(f"Dovetail-{key} is missing")
        gates = _gates(found.get("Gates", "[]"))
        if found["Kind"] == PROMOTE and (failed := [gate["name"] for gate in gates if not gate["passed"]]):
            raise ValueError(f"Dovetail-Kind is {PROMOTE!r}, and the gate {_short(failed[0])} failed")
        return cls(
            kind=found["Kind"],
            version=int(found["Version"]) if "Version" in found else None,
            before=int(found["From"]) if "From" in found else None,
            md5=found["Model-Md5"],
            reason=found.get("Reason", ""),
            evidence=found.get("Evidence", ""),
            gates=gates,
            package=found.get("Package", ""),
            requirements=tuple(found.get("Requirements", "").split()),
            allow=tuple(found.get("Allow", "").split()),
            value=found.get("Model-Value", ""),
        )


def _gates(text: str) -> tuple[Mapping[str, Any], ...]:
    try:
        gates = json.loads(text)
    except (ValueError, RecursionError) as error:  # huge integers are a ValueError, too
        raise ValueError(f"Dovetail-Gates is {_short(text)}") from error
    if not isinstance(gates, list) or not all(map(_is_gate, gates)):
        raise ValueError(f"Dovetail-Gates is {_short(text)}")
    return tuple(gates)


def _is_gate(gate: Any) -> bool:
    return (
        isinstance(gate, dict)
        and isinstance(gate.get("name"), str)
        and isinstance(gate.get("passed"), bool)
        and isinstance(gate.get("limit", ""), str)
        and all(value is None or isinstance(value, str | int | float) for value in gate.values())
    )


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
