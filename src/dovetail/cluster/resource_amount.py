"""Resources as numbers."""

from typing import Any

_SIZES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def resource_amount(value: Any) -> float | None:
    """A resource as a number: 4, 0.5, or `8 GB` in bytes; None where it is none."""
    said = str(value).strip().lower()
    number = said.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        found = float(number) * _SIZES[unit] if (unit := said[len(number) :].strip()) else float(number)
    except (ValueError, KeyError):
        return None
    return found if 0 < found < float("inf") else None
