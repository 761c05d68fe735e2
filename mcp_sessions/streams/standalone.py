"""The standalone stream of a session: messages that belong to no request, from any process."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mcp_sessions import subscriptions
from mcp_sessions.cluster.client_requests import Ask
from mcp_sessions.current import current_exchange
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.exchange import below_log_level
from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Appended
from mcp_sessions.store.session import STANDALONE, Session
from mcp_sessions.streams.writer import patiently
from mcp_sessions.transport import jsonrpc

if TYPE_CHECKING:
    from mcp_sessions.serving.runtime import Runtime

logger = logging.getLogger(__name__)


async def publish(
    runtime: "Runtime", fingerprint: str, message: Mapping[str, Any], *, key: str | None = None
) -> bool:
    """Put a message on a session's standalone stream, once for each `key`. False if the session is gone.

    Raises: StoreUnavailable.
    """
    payloads, key, limits = [jsonrpc.encode(message)], key or secrets.token_hex(8), runtime.conf.stream_limits
    appended: Appended | None = await patiently(
        lambda: runtime.store.run(streams.publish(fingerprint, payloads=payloads, key=key, limits=limits))
    )
    if appended is not None and appended.claim is not None:
        runtime.ring_for(appended.claim.node, fingerprint, STANDALONE)
    return appended is not None


async def pass_on(runtime: "Runtime", method: str, uri: str | None, *, key: str) -> None:
    """Put an announcement on the standalone streams that are delivered by this process, once for each `key`."""
    listening = runtime.followers.listening
    try:
        if uri is not None:
            listening &= await patiently(
                lambda: runtime.store.run(streams.subscribed(sorted(listening), uri))
            )
    except StoreUnavailable as away:
        logger.warning("An announcement was not passed on: %s", away)
        return
    message = jsonrpc.notification(method, subscriptions.params_of(uri))
    results = await asyncio.gather(
        *(publish(runtime, fingerprint, message, key=key) for fingerprint in listening),
        return_exceptions=True,
    )
    for error in results:
        if isinstance(error, BaseException):
            logger.warning("An announcement was not passed on: %s", error)


class StandaloneChannel:
    """The standalone stream of one session, for the SDK."""

    __slots__ = ("_runtime", "_session")

    can_ask = True

    def __init__(self, runtime: "Runtime", session: Session) -> None:
        self._runtime = runtime
        self._session = session

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Best effort: a store that stays away is logged."""
        if below_log_level(self._session.log_level, method, params):
            return
        try:
            await self._say(jsonrpc.notification(method, params))
        except StoreUnavailable as error:
            logger.warning("%s of session %.12s was dropped: %s", method, self._session.fingerprint, error)

    async def ask(self, ask: Ask) -> jsonrpc.Reply:
        exchange = current_exchange.get(None)
        with nullcontext() if exchange is None else exchange.waiting():
            return await self._runtime.questions.ask(self._session.fingerprint, ask, self._say)

    async def _say(self, message: Mapping[str, Any]) -> None:
        await publish(self._runtime, self._session.fingerprint, message)


class NoChannel:
    """The channel of `initialize`: no stream exists yet."""

    can_ask = False

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        logger.debug("Dropped %s: the session does not exist yet.", method)

    async def ask(self, ask: Ask) -> jsonrpc.Reply:
        raise RuntimeError(f"{ask.method} cannot be sent before the session exists")
