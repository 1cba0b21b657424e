"""From evidence to verdicts: whether a model may become what others rely on. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dovetail.errors import UserError

_KEYS = ("min", "max", "on")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer; `value` is what was measured, `limit` what was asked."""

    name: str
    passed: bool
    value: float | None
    limit: str
    detail: str = ""
    next: str = ""

    def as_json(self) -> dict[str, Any]:
        """The verdict as `--json` gives it."""
        return asdict(self)


def evaluate(gates: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, float]) -> list[Verdict]:
    """Hold each gate's `min` and `max` against its metric, or against a bound of the metric's interval.

    `on: low` reads `<metric>_low` instead of `<metric>`, `on: high` reads `<metric>_high`.

    Raises:
        UserError: when a gate has an unknown key, or neither bound.
    """
    return [verdict for name, gate in gates.items() for verdict in _bounds(name, gate, metrics)]


def _bounds(name: str, gate: Mapping[str, Any], metrics: Mapping[str, float]) -> list[Verdict]:
    bounds = {key: gate[key] for key in ("min", "max") if gate.get(key) is not None}
    if unknown := set(gate) - set(_KEYS):
        raise UserError(
            f"gate {name!r} has unknown keys {sorted(unknown)}", f"use {', '.join(_KEYS)} in its `gates` entry"
        )
    if not bounds:
        raise UserError(f"gate {name!r} has neither min nor max", "give it a bound in its `gates` entry")
    on = gate.get("on", "value")
    metric = name if on == "value" else f"{name}_{on}"
    value = metrics.get(metric)
    verdicts = []
    for key, bound in bounds.items():
        passed = value is not None and (value >= bound if key == "min" else value <= bound)
        limit = f"{metric} {'≥' if key == 'min' else '≤'} {bound}"
        if value is None:
            detail, following = (
                f"no metric {metric!r}; there are: {', '.join(metrics) or 'none'}",
                "mend the gate's name",
            )
        else:
            detail, following = (
                f"{metric} = {value:.4g}",
                "" if passed else "improve the model, or move the gate in git",
            )
        verdicts.append(Verdict(name, passed, value, limit, detail, following))
    return verdicts
