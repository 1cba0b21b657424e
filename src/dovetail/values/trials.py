"""The trials of a search for params, as a model's card lists them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: its params as text, its score by name of the metric; none for one that failed."""

    number: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def trials_of(card: Mapping[str, Any] | None) -> tuple[Trial, ...]:
    """What stands under `search` in the card: `{metric: …, trials: [{trial: 0, params: {…}, score: …}]}`.

    A card is the user's own, so that what is written otherwise is passed over: no model fails for it.
    """
    search = card.get("search") if card else None
    if not isinstance(search, Mapping) or not isinstance(search.get("trials"), list):
        return ()
    metric = str(search.get("metric", "score"))
    return tuple(found for one in search["trials"] if (found := _trial(one, metric)))


def _trial(one: Any, metric: str) -> Trial | None:
    if not isinstance(one, Mapping) or type(one.get("trial")) is not int or not isinstance(one.get("params"), Mapping):
        return None
    score = one.get("score")
    return Trial(
        number=one["trial"],
        params={str(name): str(value) for name, value in one["params"].items()},
        metrics={metric: float(score)} if isinstance(score, int | float) and math.isfinite(score) else {},
    )
