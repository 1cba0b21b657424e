"""A clean-up for people."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from dovetail.render.short import SHORT

_SHOWN = 20  # rows that are read; --json has them all


def gc(answer: dict[str, Any]) -> str:
    """What is kept for whom, what goes and why, and what to know before."""
    return "\n".join(_lines(answer))


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    by_reason = defaultdict(list)
    for row in answer["delete"]:
        by_reason[row["where"], row["why"]].append(row)
    for (where, why), rows in by_reason.items():
        yield f"{where}: {_count(rows)}, {_size(sum(row['size'] for row in rows))}: {why}"
        largest = sorted(rows, key=lambda row: (-row["size"], row["what"]))
        yield from (
            f"  {_size(row['size']):>9}  {(row['md5'] or '')[:SHORT]:8}  {row['what']}" for row in largest[:_SHOWN]
        )
        if len(rows) > _SHOWN:
            yield f"  … and {len(rows) - _SHOWN} smaller ones; all of them: --json"
    for entry in answer["keep"][:_SHOWN]:
        yield f"kept for {entry['what']}: {_count(range(entry['objects']))}, {_size(entry['size'])}"
    if len(answer["keep"]) > _SHOWN:
        yield f"kept for {len(answer['keep']) - _SHOWN} more; all of them: --json"
    for warning in answer["warnings"]:
        first = "this has to be settled first" if warning["blocks"] else "warning"
        yield f"{first}: {warning['what']}: {warning['why']}; next: {warning['next']}"
    looked = f"looked at: {', '.join(answer['looked_at'])}"
    remote = "" if any(name.startswith("remote") for name in answer["looked_at"]) else "; the remote only with --cloud"
    if not answer["delete"]:
        yield f"nothing to delete; {looked}{remote}"
    else:
        done = "deleted" if answer["deleted"] else "would delete, with --force:"
        yield f"{done} {_count(answer['delete'])}, {_size(answer['bytes'])}; {looked}{remote}"


def _count(rows: Any) -> str:
    return f"{len(rows):,} object{'' if len(rows) == 1 else 's'}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
