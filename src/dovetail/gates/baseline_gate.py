"""The gate that a model surely knows more than a baseline, which has seen no feature."""

from collections.abc import Iterator, Mapping
from typing import Any

from dovetail.gates.gate_verdict import Verdict, no

NAME = "baseline"
DEFAULTS: Mapping[str, Any] = {"metric": None, "margin": 0.0, "required": True}
_PREFIX = "baseline."  # of the baseline's metrics, as an evaluation nests them
_COMPARED = ("accuracy", "r2")  # by which a model is held against its baseline, where its gates name no metric


def judge(gate: Mapping[str, Any], metrics: Mapping[str, float]) -> Iterator[Verdict]:
    """The low bound of the metric's interval against the baseline's value on the same rows.

    Asked where an evaluation measured a baseline, or where the gate is configured.
    """
    known = {
        own.removeprefix(_PREFIX): value
        for name, value in metrics.items()
        if (own := name.rpartition(":")[2]).startswith(_PREFIX)  # of two files with the same metric: `file:name`
    }
    if not gate["required"] or not (known or gate["configured"]):
        return
    metric = gate["metric"] or next((name for name in _COMPARED if name in known), _COMPARED[0])
    low, chance = metrics.get(f"{metric}_low"), known.get(metric)
    limit = f"{metric}_low > {_PREFIX}{metric}" + (f" + {gate['margin']:g}" if gate["margin"] else "")
    if low is None or chance is None:
        lacking = f"{metric}_low" if low is None else f"{_PREFIX}{metric}"
        others = [name for name in known if f"{name}_low" in metrics]
        following = (
            f"name another in its gates, baseline: {{metric: {others[0]}}}" if others else "let evaluation write it"
        )
        yield no(NAME, limit, f"no metric {lacking}; there are both of: {', '.join(others) or 'none'}", following)
        return
    passed = low > chance + gate["margin"]
    detail = f"{metric} = {metrics.get(metric, low):.4g}, at least {low:.4g}; without features {chance:.4g}"
    another = ", or, if balanced_accuracy says more of it, baseline: {metric: balanced_accuracy} in its gates"
    following = f"improve the model, or test it on more rows{another if metric == 'accuracy' else ''}"
    yield Verdict(NAME, passed, low, limit, detail, "" if passed else following)
