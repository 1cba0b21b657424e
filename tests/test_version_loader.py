"""Versions are loaded by all of a server's processes or by none: also where one ends while another still loads."""

import asyncio

import pytest
import templates
from project import copy_of
from serving import Server

from dovetail.serving.engine import kept_copies
from dovetail.serving.engine.process_client import ProcessLost
from dovetail.serving.engine.version_loader import VersionLoader
from dovetail.serving.metrics import Metrics
from dovetail.serving.serve import settings
from dovetail.serving.settings import ServeOptions

pytestmark = pytest.mark.slow


class SecondWaits(VersionLoader):
    """Its second process goes on once the first, which has loaded, was killed."""

    first = None

    async def _loaded_process(self, copy):
        is_second, self.first = self.first is not None, self.first or asyncio.get_running_loop().create_future()
        client, about = await super()._loaded_process(copy)
        if not is_second:
            self.first.set_result(client)
            return client, about
        first = await self.first
        gone = asyncio.Event()
        first.on_lost = gone.set
        first.kill()
        await gone.wait()
        return client, about


def test_a_process_that_ends_while_another_loads_is_not_kept_as_one_that_answers(tmp_path_factory):
    project = copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("loader") / "p")
    with Server(project):
        pass
    asked = settings("m@production", ServeOptions(workers=2), start=project.root)
    copy, _ = kept_copies.last(asked.keep)
    lost = []

    async def load():
        loader = SecondWaits(asked, Metrics())
        try:
            await loader.load(copy, lambda *_: lost.append(1))
        finally:
            await loader.close()

    with pytest.raises(ProcessLost, match="ended while another loaded"):
        asyncio.run(load())
