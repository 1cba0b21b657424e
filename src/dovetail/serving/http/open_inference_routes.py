"""The paths of the Open Inference Protocol (V2), answered by the same models, within the same bounds."""

from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from typing import Any

import orjson

from dovetail.serving.http.incoming import Receive, Scope
from dovetail.serving.http.model_routes import ModelRoutes
from dovetail.serving.http.reply import Look, Post, Reply
from dovetail.serving.protocol import open_inference
from dovetail.serving.protocol.refused import Refused

ROOT = "/v2"
Probe = Callable[[Sequence[ModelRoutes]], Reply]


def server_routes(models: Sequence[ModelRoutes], health: Callable[[], Reply], ready: Probe) -> dict[str, Look]:
    """The server's: who it is, and whether it and its models live and are ready."""
    about = {"name": open_inference.PLATFORM, "version": installed("dovetail-ml"), "extensions": []}
    return {
        ROOT: lambda _: Reply(200, orjson.dumps(about)),
        f"{ROOT}/health/live": lambda _: Reply(status := health().status, _said("live", status)),
        f"{ROOT}/health/ready": lambda _: Reply(status := ready(models).status, _said("ready", status)),
    }


def model_get(model: ModelRoutes, ready: Probe) -> dict[str, Look]:
    """What a model is asked about itself."""
    name = model.settings.model

    def metadata(_: Scope) -> Reply:
        loaded = model.loaded()
        said = open_inference.metadata(name, loaded.copy.version, loaded.signature)
        return Reply(200, orjson.dumps(said), version=model.who())

    def is_ready(_: Scope) -> Reply:
        status = ready([model]).status
        return Reply(status, orjson.dumps({"name": name, "ready": status == 200}), version=model.who())  # noqa: PLR2004

    root = f"{ROOT}/models/{name}"
    return {root: metadata, f"{root}/ready": is_ready}


def model_post(model: ModelRoutes) -> dict[str, Post]:
    """What a model is asked to predict."""

    async def infer(scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Reply:
        open_inference.refuse_binary(headers)
        predicted = await model.predicted(scope, headers, receive, open_inference.TYPE)
        request_id = model.request_id(predicted.request)
        loaded = predicted.loaded
        who = model.settings.model, loaded.copy.version
        output = loaded.signature.output
        content = open_inference.infer_answer(who, predicted.request, output, predicted.content, request_id)
        return model.answered(predicted, request_id, content)

    return {f"{ROOT}/models/{model.settings.model}/infer": infer}


def refused_body(refused: Refused) -> bytes:
    """A refusal as the protocol has it: its `error`, and what is said elsewhere."""
    said: dict[str, Any] = {"error": refused.message, **orjson.loads(refused.body())}
    return orjson.dumps(said)


def _said(what: str, status: int) -> bytes:
    return orjson.dumps({what: status == 200})  # noqa: PLR2004  (as HTTP numbers it)
