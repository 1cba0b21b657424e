"""Two things at once: a value made in a forked process, while this one imports what takes a second."""

import multiprocessing
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from dovetail.errors import DovetailError

T = TypeVar("T")


def beside(work: Callable[[], T], meanwhile: Callable[[], object]) -> T:
    """The result of `work`, which is read only and gives a value that can be pickled; `meanwhile` is done here.

    Called before anything heavy is imported, so that the fork is cheap. Where it is not safe, for the system or because
    threads would be lost, and where the other process died, `work` is done here.

    Raises:
        DovetailError: what `work` raised.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return work()
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_hand_over, args=(send, work), daemon=True)
    process.start()
    send.close()
    meanwhile()
    try:
        given = receive.recv()
    except EOFError:  # it was killed, or failed in a way that only its own traceback explains
        return work()
    finally:
        process.join()
    if isinstance(given, DovetailError):
        raise given
    return cast("T", given)


def _hand_over(send: Connection, work: Callable[[], object]) -> None:
    with suppress(Exception, KeyboardInterrupt):
        try:
            send.send(work())
        except DovetailError as error:
            send.send(error)
