"""The start of a process of daphne, which ends with 1 if it cannot serve what the settings say."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import lifecycle


def begin(reactor: Any, stop: Callable[[], None]) -> "asyncio.Future[None]":
    """Run the start hooks. If they say that the settings are wrong, `stop` as on SIGTERM, and end with 1."""
    return asyncio.ensure_future(_begin(reactor, stop))


async def _begin(reactor: Any, stop: Callable[[], None]) -> None:
    try:
        await lifecycle.start()
    except ImproperlyConfigured:
        # daphne ends with 0, however it is stopped, and a supervisor would take that for the end of its work.
        reactor.addSystemEventTrigger("after", "shutdown", _end)
        stop()


def _end() -> None:
    logging.shutdown()
    os._exit(1)
