"""Numbers of 64 bits made others, evenly spread, by a seed: the same on every machine."""

from typing import Any

import numpy as np

_GOLDEN, _WORD = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF


def shuffled(numbers: Any, seed: int) -> Any:
    """Another number for each, and other ones for each seed; no two become one.

    A step of SplitMix64 (Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators").
    """
    found = numbers + np.uint64((seed + 1) * _GOLDEN & _WORD)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
