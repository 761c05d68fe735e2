"""Messages to clients from anywhere: a task queue, a signal handler, a management command, the admin.

The sync functions are for code outside an event loop, the others, whose names start with `a`, for code inside one. A
message to a session goes to its standalone stream: to the client's open GET stream, on whichever process, or else to
the next one. All raise StoreUnavailable if the store cannot be asked; with sessions in memory, only this process hears.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from asgiref.sync import sync_to_async

from mcp_sessions import subscriptions
from mcp_sessions.cluster.node import LOOK_AT_NOTICES, Doorbell, as_notice, encode
from mcp_sessions.conf import endpoint as endpoint_conf
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes, streams
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import STANDALONE

logger = logging.getLogger(__name__)

#: What `announce` takes.
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
_ANNOUNCEMENTS: Final = frozenset({TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED, RESOURCE_UPDATED})


def send(
    fingerprint: str, method: str, params: Mapping[str, Any] | None = None, *, endpoint: str = "default"
) -> bool:
    """Send a notification to one session, named by its fingerprint (`current_session().fingerprint`).

    False if the session is gone. The client's log level is not looked at.
    """
    store = sync_store_for(endpoint)
    appended = store.run(
        streams.publish(
            fingerprint,
            payloads=[jsonrpc.encode(jsonrpc.notification(method, params))],
            key=secrets.token_hex(8),
            limits=endpoint_conf(endpoint).stream_limits,
        )
    )
    if appended is None:
        return False
    if appended.claim is not None:
        node = appended.claim.node
        doorbell = encode({"t": "stream", "s": fingerprint, "n": STANDALONE})
        _hint(lambda: store.run(nodes.notify({node: [doorbell]})))
    return True


async def asend(
    fingerprint: str, method: str, params: Mapping[str, Any] | None = None, *, endpoint: str = "default"
) -> bool:
    """As `send`."""
    return await sync_to_async(send, thread_sensitive=False)(fingerprint, method, params, endpoint=endpoint)


def announce(method: str, uri: str | None = None, *, endpoint: str = "default") -> None:
    """Tell every client that wants to know that something changed: TOOLS_CHANGED and its sisters.

    RESOURCE_UPDATED takes the resource's `uri`, and reaches those who subscribed to it. Reaches open streams of both
    eras, on every process; who does not listen fetches anew anyway.

    Raises: ValueError for another method, or a `uri` that is missing or too much.
    """
    if method not in _ANNOUNCEMENTS or (uri is not None) != (method == RESOURCE_UPDATED):
        raise ValueError(
            f"announce() takes {sorted(_ANNOUNCEMENTS)}, and a uri with {RESOURCE_UPDATED} only."
        )
    store = sync_store_for(endpoint)
    store.run(nodes.broadcast(as_notice(subscriptions.announcement(method, uri))))
    ring_all(LOOK_AT_NOTICES, endpoint=endpoint)


async def aannounce(method: str, uri: str | None = None, *, endpoint: str = "default") -> None:
    """As `announce`."""
    await sync_to_async(announce, thread_sensitive=False)(method, uri, endpoint=endpoint)


def ring_all(doorbell: Doorbell, *, endpoint: str) -> None:
    """Ring at every process of an endpoint, from outside any event loop; a heartbeat makes up for what fails."""
    _hint(lambda: sync_store_for(endpoint).run(nodes.notify_all(encode(doorbell))))


def _hint(ring: Callable[[], None]) -> None:
    """What the doorbell is about is in the store already: the caller has nothing to do again."""
    try:
        ring()
    except StoreUnavailable as error:
        logger.warning("The processes could not be told at once: %s", error)
