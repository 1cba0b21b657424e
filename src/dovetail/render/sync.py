"""What `sync` did to MLflow's view, for people."""

from typing import Any


def synced(done: dict[str, Any]) -> str:
    """What was made and moved, and what could not be restored."""
    lines = [
        f"{what}: {done[what]['created']} created, {done[what]['present']} present" for what in ("runs", "versions")
    ]
    lines += [f"{a['model']}@{a['alias']}: {a['from'] or 'nothing'} → {a['to']}" for a in done["aliases"]]
    lines += [f"moved here from {folder}: paths in the store corrected" for folder in done["mended"]]
    lines += [f"repaired: {version}" for version in done["repaired"]]
    if retagged := done["retagged"]:
        whose = "runs and versions" if retagged > 1 else "run or version"
        lines.append(f"tags that an older Dovetail wrote: rewritten, of {retagged} {whose}")
    if passed := done["passed_over"]:
        why = "their bytes are in no cache or remote, and no current branch, tag or alias names them"
        lines.append(f"passed over: {len(passed)} models of older commits: {why}")
    lines += [f"not restored: {p['what']}: {p['why']}; next: {p['next']}" for p in done["problems"]]
    return "\n".join(lines)
