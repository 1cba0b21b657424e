"""Loaders that can run any code, and which of them the machine's owner trusts; `docs/adr/0014` says why."""

import os

from dovetail.models.unsupported import Unsupported

TRUSTED = "DOVETAIL_TRUSTED_LOADERS"


def refusal(loader: str, what: str, holder: str) -> Unsupported | None:
    """Why the loader is not asked for what is `what`, which lies in `holder`; None where this machine trusts it."""
    trusted = [name.strip() for name in os.environ.get(TRUSTED, "").split(",") if name.strip()]
    if loader in trusted:
        return None
    return Unsupported(
        f"{what}, and {loader}, which loads it, can run any code that the {holder} holds",
        f"export {TRUSTED}={','.join([*trusted, loader])}, if this machine may do so; else write it as ONNX",
    )
