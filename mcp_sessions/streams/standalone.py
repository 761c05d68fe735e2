"""The standalone stream of a session: messages that belong to no request, from any process."""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.cluster.client_requests import ClientRequest, ClientRequests
from mcp_sessions.cluster.notifications import StreamChanged
from mcp_sessions.current import current_exchange
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import streams, subscriptions
from mcp_sessions.store.drivers.absent import WithoutStore
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.retry import retry_while_unavailable
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import STANDALONE

logger = logging.getLogger(__name__)

_dropped: Final = Repeats(logger, "Messages of no call that were dropped")


async def publish(
    context: Context, fingerprint: str, message: Mapping[str, Any], *, key: str | None = None
) -> None:
    """Put a message on a session's standalone stream, once for each `key`; nothing if the session has ended.

    Raises: StoreUnavailable.
    """
    put = streams.publish(
        fingerprint,
        payloads=[jsonrpc.encode(message)],
        key=key or secrets.token_hex(8),
        limits=context.conf().stream_limits,
    )
    appended = await retry_while_unavailable(lambda: context.store.run(put))
    if appended is not None and appended.claim is not None:
        context.node.notify(appended.claim.node, StreamChanged(fingerprint=fingerprint, stream=STANDALONE))


async def publish_to_all(
    context: Context, listening: Set[str], method: str, uri: str | None, *, key: str
) -> None:
    """Put an announcement on the standalone streams of these sessions, once for each `key`.

    That a resource was updated is sent only to the sessions that subscribed to its `uri`.
    """
    try:
        if uri is not None:
            asked = sorted(listening)
            listening = await retry_while_unavailable(
                lambda: context.store.run(subscriptions.subscribed(asked, uri))
            )
    except StoreUnavailable as error:
        _dropped.add("An announcement was not passed on: %s", error)
        return
    message = jsonrpc.notification(method, None if uri is None else {"uri": uri})
    results = await asyncio.gather(
        *(publish(context, fingerprint, message, key=key) for fingerprint in listening),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, BaseException):
            _dropped.add("An announcement was not passed on: %s", result)


@dataclass(frozen=True, slots=True)
class StandaloneChannel:
    """The standalone stream of one session, for the SDK."""

    context: Context
    client_requests: ClientRequests
    session: Session

    @property
    def can_send_request(self) -> bool:
        return True

    @property
    def log_level(self) -> str | None:
        return self.session.log_level

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Best effort: if the store stays away, the notification is dropped and logged."""
        try:
            await self._put(jsonrpc.notification(method, params))
        except StoreUnavailable as error:
            _dropped.add("%s of session %.12s was dropped: %s", method, self.session.fingerprint, error)

    async def send_request(self, request: ClientRequest) -> jsonrpc.Reply:
        if not self.session.is_stored:
            raise WithoutStore
        exchange = current_exchange.get(None)
        with nullcontext() if exchange is None else exchange.waiting():
            return await self.client_requests.send(self.session.fingerprint, request, self._put)

    async def _put(self, message: Mapping[str, Any]) -> None:
        if not self.session.is_stored:  # nobody waits for a store that is away
            raise WithoutStore
        await publish(self.context, self.session.fingerprint, message)
