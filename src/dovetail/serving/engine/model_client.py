"""The server's side of the process that holds a model."""

import json
from typing import Any

from dovetail.serving.engine import frames
from dovetail.serving.engine.fork_client import ForkClient
from dovetail.serving.engine.kept_copies import VersionCopy
from dovetail.serving.engine.process_client import ProcessClient, ProcessLost

_MODULE = "dovetail.serving.engine.model_process"


class ModelClient(ProcessClient):
    """Of one model process."""

    @classmethod
    async def start_empty(cls, forks: ForkClient | None = None) -> "ModelClient":
        """A new process that holds no model yet; forked where `forks` can.

        Raises:
            ProcessLost: when the machine has no room for one.
        """
        return await (cls.start_by(forks.fork) if forks else cls.start(_MODULE))

    async def load(self, copy: VersionCopy) -> dict[str, Any]:
        """Let the process read a model; what it takes and gives.

        Raises:
            ValueError: with the reason, when it cannot.
            ProcessLost: when reading it ended the process.
        """
        parts = await self.answer(frames.request(("load", copy.folder, copy.md5, copy.allow, copy.onnx)))
        if parts is None:
            raise ProcessLost("the process that loaded it died")
        ((well, content),) = parts
        said: dict[str, Any] = json.loads(content)
        if not well:
            raise ValueError(said["message"])
        return said
