"""Messages to clients from anywhere: a task queue, a signal handler, a management command, the admin.

The sync functions are for code outside an event loop; the others, whose names start with `a`, are for code inside one.
A message to a session goes to its standalone stream: to the client's open GET stream, on whichever process, or else to
the next one. All raise StoreUnavailable if the store cannot be asked. With sessions in memory, only this process hears.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from asgiref.sync import sync_to_async

from mcp_sessions import conf
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import (
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    TOOLS_CHANGED,
    Announced,
    StreamChanged,
)
from mcp_sessions.store.calls import streams
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import STANDALONE

__all__ = [
    "PROMPTS_CHANGED",
    "RESOURCES_CHANGED",
    "RESOURCE_UPDATED",
    "TOOLS_CHANGED",
    "aannounce",
    "announce",
    "asend",
    "send",
]

#: What `announce` takes.
_ANNOUNCEMENTS: Final = frozenset({TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED, RESOURCE_UPDATED})


def send(
    fingerprint: str, method: str, params: Mapping[str, Any] | None = None, *, endpoint: str = "default"
) -> bool:
    """Send a notification to one session, named by its fingerprint (`current_session().fingerprint`).

    False if the session is gone. The client's log level is ignored.
    """
    appended = sync_store_for(endpoint).run(
        streams.publish(
            fingerprint,
            payloads=[jsonrpc.encode(jsonrpc.notification(method, params))],
            key=secrets.token_hex(8),
            limits=conf.endpoint(endpoint).stream_limits,
        )
    )
    if appended is None:
        return False
    if appended.claim is not None:
        changed = StreamChanged(fingerprint=fingerprint, stream=STANDALONE)
        outside.notify(endpoint, appended.claim.node, changed)
    return True


async def asend(
    fingerprint: str, method: str, params: Mapping[str, Any] | None = None, *, endpoint: str = "default"
) -> bool:
    """As `send`."""
    return await sync_to_async(send, thread_sensitive=False)(fingerprint, method, params, endpoint=endpoint)


def announce(method: str, uri: str | None = None, *, endpoint: str = "default") -> None:
    """Tell every client that wants to know that something changed: TOOLS_CHANGED and the other constants.

    RESOURCE_UPDATED takes the resource's `uri`, and reaches the clients that subscribed to it. An announcement reaches
    open streams of both eras, on every process; a client that does not listen fetches anew anyway.

    Raises: ValueError for another method, or a `uri` that is missing or not allowed.
    """
    if method not in _ANNOUNCEMENTS or (uri is not None) != (method == RESOURCE_UPDATED):
        raise ValueError(
            f"announce() takes {sorted(_ANNOUNCEMENTS)}, and a uri with {RESOURCE_UPDATED} only."
        )
    outside.broadcast(endpoint, Announced(method=method, uri=uri))


async def aannounce(method: str, uri: str | None = None, *, endpoint: str = "default") -> None:
    """As `announce`."""
    await sync_to_async(announce, thread_sensitive=False)(method, uri, endpoint=endpoint)
