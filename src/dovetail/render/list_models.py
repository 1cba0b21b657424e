"""Models and their versions for people."""

from typing import Any

_SHOWN = 4  # metrics of a version on one line


def models(answer: dict[str, Any]) -> str:
    """A line for each model; of one model alone a line for each version, newest first."""
    if not answer["models"]:
        return "no models are declared; next: dovetail init"
    lines = []
    for one in answer["models"]:
        count = len(one["versions"])
        aliases = [f"@{alias} {number}" for alias, number in one["aliases"].items()]
        where = one["path"] or "not in dvc.yaml"
        parts = [where, f"{count} version{'' if count == 1 else 's'}", *aliases]
        lines.append(f"{one['model']}: {' · '.join(parts)}" + (f"  {one['desc']}" if one["desc"] else ""))
        lines += [_version(version) for version in one["versions"] if version["metrics"] is not None]
    return "\n".join(lines)


def _version(one: dict[str, Any]) -> str:
    plain = {name: value for name, value in one["metrics"].items() if "." not in name}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in list((plain or one["metrics"]).items())[:_SHOWN])
    aliases = "".join(f" @{alias}" for alias in one["aliases"])
    return (
        f"  {one['version']:>4}  {one['created'][:16].replace('T', ' ')}  {(one['md5'] or '')[:8]:8}  {shown}{aliases}"
    )
