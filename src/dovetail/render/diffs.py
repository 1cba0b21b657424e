"""Comparisons of several models for people: one after the other."""

from collections.abc import Callable
from typing import Any


def each(of_one: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """What shows one comparison, or several."""

    def text(answer: dict[str, Any]) -> str:
        if "models" not in answer:
            return of_one(answer)
        told = [f"{one['what']}: not compared: {one['why']}; next: {one['next']}" for one in answer["problems"]]
        return "\n\n".join([*map(of_one, answer["models"]), *told])

    return text
