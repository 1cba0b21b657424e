"""From evidence to verdicts: whether a model may become what others rely on. Pure.

A gate is named after the metric that it bounds, or is one of KINDS. `register` asks those that numbers answer,
`promote` all of them; PROVENANCE, PICKLE, SERVING and CHAMPION are asked of every promotion, configured or not, and
the baseline's of every model whose evaluation measured one.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dovetail.errors import UserError
from dovetail.gates import baseline_gate
from dovetail.gates.evidence import Evidence
from dovetail.gates.gate_verdict import Verdict, no, yes
from dovetail.values.names import unknown

DATA, SIGNATURE, SLICES = "data", "signature", "slices"
PROVENANCE, PICKLE, SERVING, CHAMPION = "provenance", "pickle", "serving", "champion"
PROVENANCE_COMMIT, PROVENANCE_DATA = f"{PROVENANCE}.commit", f"{PROVENANCE}.data"  # verdicts that PROVENANCE gives
PROVENANCE_PUSHED, PROVENANCE_REPRODUCED = f"{PROVENANCE}.pushed", f"{PROVENANCE}.reproduced"
KINDS: Mapping[str, Mapping[str, Any]] = {  # each kind's keys with their defaults, in the order of the verdicts
    baseline_gate.NAME: baseline_gate.DEFAULTS,
    DATA: {"max_rejected": 0.0},
    SIGNATURE: {"required": True},
    PROVENANCE: {"pushed": False, "reproduced": False},
    PICKLE: {"allow": ()},
    SERVING: {"p99_ms": None, "max_mb": None, "missing": None},
    SLICES: {},
    CHAMPION: {"metric": None, "margin": 0.0, "confidence": 0.95, "min_rows": 20, "target": None},
}
_ALWAYS = (baseline_gate.NAME, PROVENANCE, PICKLE, SERVING, CHAMPION)
BOUNDS: Mapping[str, Any] = {"min": None, "max": None, "on": "value"}  # keys of a metric's gate, with their defaults
SLICE: Mapping[str, Any] = {"metric": None, "min": None, "min_rows": 1}  # of one column of SLICES
_MEGABYTE = 1_000_000
_NUMBERS = ("max_rejected", "p99_ms", "max_mb", "margin", "confidence", "min_rows", "min", "max")


def evaluate(gates: Mapping[str, Mapping[str, Any]], evidence: Evidence) -> list[Verdict]:
    """Hold the evidence against every gate that it answers.

    A metric's gate has `min`, `max` or both; `on: low` reads `<metric>_low`, `on: high` reads `<metric>_high`.

    Raises:
        UserError: when a gate has an unknown key, or a metric's has neither bound.
    """
    verdicts = [v for name, gate in gates.items() if name not in KINDS for v in _bounds(name, gate, evidence.metrics)]
    for kind, judge in _JUDGES.items():
        if kind in gates or kind in _ALWAYS:
            verdicts += judge(settings(gates, kind), evidence)
    return verdicts


def settings(gates: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """The keys of a gate of KINDS, defaults filled in.

    Raises:
        UserError: when it is malformed or has an unknown key.
    """
    given, known = gates.get(kind) or {}, KINDS[kind]
    if kind == SLICES:
        _refuse_unknown(kind, given, tuple(given))
        for column, one in given.items():
            _refuse_unknown(f"{kind}.{column}", one, tuple(SLICE))
            if one.get("metric") is None or one.get("min") is None:
                raise UserError(f"gate '{kind}.{column}' is {dict(one)}", "give it a metric and a min")
        return dict(given)
    _refuse_unknown(kind, given, tuple(known))
    return {**known, **{key: value for key, value in given.items() if value is not None}, "configured": kind in gates}


def _refuse_unknown(name: str, gate: Any, known: tuple[str, ...]) -> None:
    if not isinstance(gate, Mapping):
        raise UserError(f"gate {name!r} is {gate!r}", f"write it as {name}: {{{known[0] if known else 'column'}: …}}")
    for key in sorted(map(str, set(gate) - set(known))):
        raise UserError(unknown(f"gate {name!r}", "key", key, known), "correct its `gates` entry")
    for key in () if name == SLICES else sorted(set(_NUMBERS) & set(gate)):
        if gate[key] is not None and type(gate[key]) not in (int, float):
            raise UserError(f"gate '{name}.{key}' is {gate[key]!r}", "write a number there")


def _bounds(name: str, gate: Mapping[str, Any], metrics: Mapping[str, float]) -> Iterator[Verdict]:
    _refuse_unknown(name, gate, tuple(BOUNDS))
    bounds = {key: gate[key] for key in ("min", "max") if gate.get(key) is not None}
    if not bounds:
        raise UserError(f"gate {name!r} has neither min nor max", "give it a bound in its `gates` entry")
    on = gate.get("on", BOUNDS["on"])
    metric = name if on == "value" else f"{name}_{on}"
    value = metrics.get(metric)
    for key, bound in bounds.items():
        limit = f"{metric} {'≥' if key == 'min' else '≤'} {bound}"
        if value is None:
            yield no(name, limit, unknown("the evaluation", "metric", metric, metrics), "correct the gate's name")
        else:
            passed = value >= bound if key == "min" else value <= bound
            next_command = "" if passed else "improve the model, or move the gate in git"
            yield Verdict(name, passed, value, limit, f"{metric} = {value:.4g}", next_command)


def _data(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    """The share of rows that the schema rejected, by the counts that a cleaning stage wrote."""
    limit = f"rejected rows ≤ {gate['max_rejected']:.1%}"
    rows, rejected = (
        sum(value for key, value in evidence.metrics.items() if key.rpartition(".")[2] == name)
        for name in ("rows_in", "rows_rejected")
    )
    if not rows:
        yield no(DATA, limit, "no metrics rows_in and rows_rejected", "let the cleaning stage write them")
        return
    passed = (share := rejected / rows) <= gate["max_rejected"]
    next_command = "" if passed else "correct the source; data/rejected/ has the reasons"
    yield Verdict(DATA, passed, share, limit, f"{rejected:.0f} of {rows:.0f} rows rejected", next_command)


def _signature(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    if evidence.has_signature is not None:
        passed = evidence.has_signature or not gate["required"]
        detail = "a card describes it" if evidence.has_signature else "no card describes what the model takes and gives"
        next_command = "" if passed else "let the pipeline write a card, and name it under meta: {card: …} in dvc.yaml"
        yield Verdict(SIGNATURE, passed, float(evidence.has_signature), "signature required", detail, next_command)


def _provenance(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    origin = evidence.origin
    if origin is None:
        return
    name, limit = PROVENANCE_COMMIT, "a commit holds the model, its code and its data's digests"
    if origin.commit is None:
        yield no(name, limit, "no commit holds it", "git add -A && git commit")
        return
    if origin.differing:
        what = f"{', '.join(origin.differing)} at {origin.commit[:8]} is not what made the model"
        yield no(name, limit, what, "dvc repro, then git add -A && git commit")
    else:
        yield yes(name, limit, f"commit {origin.commit[:8]}")
    name, limit = PROVENANCE_DATA, "its data is in the cache, and in the remote where one is set"
    lacking = [*origin.not_cached, *(origin.not_in_remote or ())]
    if origin.remote_problem:
        yield no(name, limit, origin.remote_problem, origin.remote_next or "dvc push")
    elif origin.unkept:
        what = f"declared with cache: false, so DVC keeps no bytes of it, and not in git: {', '.join(origin.unkept)}"
        next_command = (
            f"git add {shlex.join(origin.unkept)} && git commit; or without cache: false in dvc.yaml: dvc commit"
        )
        yield no(name, limit, what, next_command)
    elif lacking:
        what = f"not {'available' if origin.not_cached else 'in the remote'}: {', '.join(dict.fromkeys(lacking))}"
        yield no(name, limit, what, "dvc push, in the clone that has it" if origin.not_cached else "dvc push")
    else:
        yield yes(name, limit, "no remote is set" if origin.not_in_remote is None else "in the remote")
    if gate["pushed"]:
        name, limit = PROVENANCE_PUSHED, "a remote branch holds the commit"
        yield yes(name, limit) if origin.pushed else no(name, limit, "no remote branch holds it", "git push")
    if gate["reproduced"]:
        name, limit = PROVENANCE_REPRODUCED, "rebuilt identically"
        if origin.reproduced == "identical":
            yield yes(name, limit)
        else:
            yield no(name, limit, f"rebuilt: {origin.reproduced or 'never'}", "dovetail reproduce")


def _pickle(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    served = evidence.served
    if served is None:
        return
    limit = "the registry's bytes are DVC's"
    if served.stored_md5 != served.md5:
        there = f"md5 {served.stored_md5}" if served.stored_md5 else "nothing"
        detail = f"the registry holds {there}, DVC recorded md5 {served.md5}; it was not read"
        yield no(f"{PICKLE}.digest", limit, detail, "dovetail doctor")
        return
    yield yes(f"{PICKLE}.digest", limit)
    limit = "the registry's package is the one that was registered"
    if not served.may_be_read:
        there = f"sha256 {served.stored_package}" if served.stored_package else "none"
        detail = f"the registry holds {there}, {served.package_source} says sha256 {served.package}; it was not read"
        yield no(f"{PICKLE}.package", limit, detail, "dovetail sync --repair")
        return
    detail = served.package_source if served.package else "registered before packages had a digest"
    yield yes(f"{PICKLE}.package", limit, detail)
    yield names(served.refused, gate["allow"])


def names(refused: str, allow: Sequence[str]) -> Verdict:
    """Whether a model names only what the table and `allow` have; `refused` is the first name that they have not."""
    name, limit = f"{PICKLE}.names", f"names nothing unexpected{' besides ' + ', '.join(allow) if allow else ''}"
    if not refused:
        return yes(name, limit)
    next_command = f"look at what wrote it; if that is yours, add to its gates pickle: {{allow: [{refused}]}}"
    return no(name, limit, f"it names {refused}; it was not loaded", next_command)


def _serving(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    served = evidence.served
    if served is None or served.refused or not served.may_be_read:
        return  # what may not be read is not served, and the gate of the pickle says so
    limit = "loads through MLflow and answers its input example" if served.has_example else "loads through MLflow"
    if served.error:
        yield no(f"{SERVING}.loads", limit, served.error, "dvc repro, then dovetail register")
        return
    yield yes(f"{SERVING}.loads", limit)
    if served.missing is not None:
        limit = "answers a row with missing values"
        yield (
            yes(f"{SERVING}.missing", limit)
            if served.missing
            else no(f"{SERVING}.missing", limit, "it does not", "put an imputer before the estimator")
        )
    if gate["p99_ms"] is not None and served.p99_ms is not None:
        passed = served.p99_ms <= gate["p99_ms"]
        yield Verdict(
            f"{SERVING}.p99_ms", passed, served.p99_ms, f"one row in ≤ {gate['p99_ms']} ms (99th percentile)",
            f"{served.p99_ms:.1f} ms", "" if passed else "a smaller model, or a higher limit",
        )  # fmt: skip
    if gate["max_mb"] is not None:
        passed = served.size <= gate["max_mb"] * _MEGABYTE
        yield Verdict(
            f"{SERVING}.max_mb", passed, served.size / _MEGABYTE, f"size ≤ {gate['max_mb']} MB",
            f"{served.size / _MEGABYTE:.2f} MB", "" if passed else "a smaller model, or a higher limit",
        )  # fmt: skip


def _slices(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    for column, asked in gate.items():
        if evidence.slices is None:
            return
        found = evidence.slices.get(column, "not measured")
        limit = f"{asked.get('metric')} ≥ {asked.get('min')} for each {column}"
        name = f"{SLICES}.{column}"
        if isinstance(found, str):
            yield no(name, limit, found, "correct the gate's column or metric")
            continue
        enough = [one for one in found if one.rows >= asked.get("min_rows", SLICE["min_rows"])]
        low = [one for one in enough if one.metric < asked["min"]]
        worst = min((one.metric for one in enough), default=None)
        detail = ", ".join(f"{one.value} {one.metric:.3g} ({one.rows} rows)" for one in (low or enough))
        yield Verdict(
            name, not low, worst, limit, detail, "improve the model there, or move the gate in git" if low else ""
        )


def _champion(gate: Mapping[str, Any], evidence: Evidence) -> Iterator[Verdict]:
    compared = evidence.compared
    if compared is None:
        return
    limit = f"not worse by more than {gate['margin']:g} at {gate['confidence']:.0%}"
    if compared.champion is None:
        yield yes(CHAMPION, limit, "it is the champion" if compared.is_champion else "there is no champion yet")
        return
    against = f"version {compared.champion}"
    force = "dovetail promote … --force --reason '…'"
    if compared.error:
        yield no(CHAMPION, limit, f"not compared with {against}: {compared.error}", force)
        return
    if compared.unknown:
        detail, next_command = (
            f"not compared with {against}: {compared.unknown}",
            "name the target: champion: {target: …}",
        )
        yield no(CHAMPION, limit, detail, next_command) if gate["configured"] else yes(CHAMPION, limit, detail)
        return
    dropped = f", {compared.dropped} left out that it was trained on" if compared.dropped else ""
    rows = f"{compared.rows} rows{dropped}"
    if compared.rows < gate["min_rows"]:
        detail = f"{rows} are too few to tell it from {against}: {gate['min_rows']} are asked"
        yield no(CHAMPION, limit, detail, f"a larger test part, or champion: {{min_rows: {compared.rows}}}")
        return
    passed = compared.high >= -gate["margin"]
    detail = (
        f"{compared.metric} {compared.difference:+.4g} against {against} "
        f"(interval {compared.low:+.4g} to {compared.high:+.4g}, {rows})"
    )
    yield Verdict(CHAMPION, passed, compared.difference, limit, detail, "" if passed else "improve the model")


_JUDGES: Mapping[str, Callable[[Mapping[str, Any], Evidence], Iterator[Verdict]]] = {
    baseline_gate.NAME: lambda gate, evidence: baseline_gate.judge(gate, evidence.metrics),
    DATA: _data,
    SIGNATURE: _signature,
    PROVENANCE: _provenance,
    PICKLE: _pickle,
    SERVING: _serving,
    SLICES: _slices,
    CHAMPION: _champion,
}
