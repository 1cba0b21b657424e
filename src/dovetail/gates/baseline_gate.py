"""The gate that a model surely knows more than a baseline, which has seen no feature."""

from collections.abc import Iterator, Mapping
from typing import Any

from dovetail.gates.gate_verdict import Verdict, no

NAME = "baseline"
DEFAULTS: Mapping[str, Any] = {"metric": None, "margin": 0.0, "required": True}
_PREFIX = "baseline."  # of the baseline's metrics, as an evaluation nests them
_FOLDS = "validation."  # of what was measured in folds of the train part
_SEARCHED = "search.trials"  # the folds chose the params: what they say is too good
_COMPARED = ("accuracy", "r2")  # by which a model is held against its baseline, where its gates name no metric


def judge(gate: Mapping[str, Any], metrics: Mapping[str, float]) -> Iterator[Verdict]:
    """The low bound of the metric's interval against the baseline's value on the same rows.

    These are the rows that folds hold out, where there are folds and no search chose params by them; else the test
    rows. Asked where an evaluation measured a baseline, or where the gate is configured.
    """
    plain = {name.rpartition(":")[2]: value for name, value in metrics.items()}  # of two files with one: `file:name`
    known = _known(plain, "")
    if not gate["required"] or not (known or gate["configured"]):
        return
    metric = gate["metric"] or next((name for name in _COMPARED if name in known), _COMPARED[0])
    of_folds = _known(plain, _FOLDS) if _SEARCHED not in plain else {}
    if metric in of_folds and f"{_FOLDS}{metric}_low" in metrics:
        known, where = of_folds, _FOLDS
    else:
        where = ""
    low, chance = metrics.get(f"{where}{metric}_low"), known.get(metric)
    limit = f"{where}{metric}_low > {where}{_PREFIX}{metric}" + (f" + {gate['margin']:g}" if gate["margin"] else "")
    if low is None or chance is None:
        lacking = f"{metric}_low" if low is None else f"{_PREFIX}{metric}"
        others = [name for name in known if f"{name}_low" in metrics]
        next_command = (
            f"name another in its gates, baseline: {{metric: {others[0]}}}" if others else "let evaluation write it"
        )
        yield no(NAME, limit, f"no metric {lacking}; there are both of: {', '.join(others) or 'none'}", next_command)
        return
    passed = low > chance + gate["margin"]
    shown = f"{where}{metric}"
    detail = f"{shown} = {metrics.get(shown, low):.4g}, at least {low:.4g}; without features {chance:.4g}"
    another = ", or, if balanced_accuracy says more of it, baseline: {metric: balanced_accuracy} in its gates"
    next_command = f"improve the model, or test it on more rows{another if metric == 'accuracy' else ''}"
    yield Verdict(NAME, passed, low, limit, detail, "" if passed else next_command)


def _known(metrics: Mapping[str, float], where: str) -> dict[str, float]:
    """The baseline's metrics on the rows that `where` stands for, by name."""
    prefix = f"{where}{_PREFIX}"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
