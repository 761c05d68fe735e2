"""Tells the nodes something from outside any of them: a task queue, a signal handler, a command, the admin.

Sync, from any thread. What a notification is about is in the store already, so that the nodes cannot be told is logged
and not raised: a heartbeat makes up for it.
"""

import logging
from collections.abc import Callable

from mcp_sessions.cluster.node import new_name
from mcp_sessions.cluster.notifications import BroadcastsPosted, Notification, encode
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for

logger = logging.getLogger(__name__)


def notify(alias: str, node: str, notification: Notification) -> None:
    """Notify one node of an endpoint."""
    encoded = encode(notification)
    _try(lambda: sync_store_for(alias).run(nodes.notify({node: [encoded]})))


def notify_all(alias: str, notification: Notification) -> None:
    """Notify every node of an endpoint."""
    encoded = encode(notification)
    _try(lambda: sync_store_for(alias).run(nodes.notify_all(encoded)))


def broadcast(alias: str, message: Notification) -> None:
    """Tell every node of an endpoint what none may miss. Raises: StoreUnavailable."""
    sync_store_for(alias).run(nodes.broadcast(encode(message, name=new_name())))
    notify_all(alias, BroadcastsPosted())


def _try(tell: Callable[[], None]) -> None:
    try:
        tell()
    except StoreUnavailable as error:
        logger.warning("The nodes could not be told at once: %s", error)
