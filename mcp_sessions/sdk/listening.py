"""`subscriptions/listen` without a handler that waits, and without the SDK's limit of 1,024 in one process.

The SDK's `ListenHandler` holds its request, a buffer and its place for as long as the client listens. Here the server
answers the request at once, with the result that ends a listening stream gracefully; who serves the client keeps it
until then, and sends what is announced meanwhile (`serving.listeners`).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ListenHandler, ServerEvent, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_matches, event_to_notification
from mcp_types import (
    INVALID_PARAMS,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import BaseModel

from mcp_sessions.current import current_request
from mcp_sessions.transport import jsonrpc

LISTEN: Final = "subscriptions/listen"
#: Characters of a URI that a client listens to: it stays in memory for as long as the client listens.
MAX_URI_CHARS: Final = 2_048


def accept_listeners(lowlevel: Server[Any]) -> SubscriptionBus | None:
    """Let a hosted server accept listeners where it has the SDK's handler; the bus that announces to them.

    None if it has no such handler, or one of its user's own: those answer themselves.
    """
    entry = lowlevel.get_request_handler(LISTEN)
    if entry is None or not isinstance(entry.handler, ListenHandler):
        return None
    bus: SubscriptionBus = entry.handler._bus  # noqa: SLF001 - no public way to it
    lowlevel.add_request_handler(LISTEN, SubscriptionsListenRequestParams, _accept)
    return bus


async def _accept(
    context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
) -> SubscriptionsListenResult:
    request, uris = current_request.get(None), params.notifications.resource_subscriptions or ()
    if request is not None and len(uris) > (most := request.conf.max_subscriptions):
        raise MCPError(INVALID_PARAMS, f"A client listens to {most} resources at most")
    if any(len(uri) > MAX_URI_CHARS for uri in uris):
        raise MCPError(INVALID_PARAMS, f"The URI of a resource has {MAX_URI_CHARS} characters at most")
    return SubscriptionsListenResult(_meta={SUBSCRIPTION_ID_META_KEY: context.request_id})


class Subscription:
    """What one client listens to, and what it is sent."""

    __slots__ = ("_filter", "_meta", "_uris")

    def __init__(self, request: jsonrpc.Request) -> None:
        """Of a request that the server has accepted."""
        wanted = SubscriptionsListenRequestParams.model_validate(request.params).notifications
        uris = wanted.resource_subscriptions or ()
        lists = (
            bool(wanted.tools_list_changed),
            bool(wanted.prompts_list_changed),
            bool(wanted.resources_list_changed),
        )
        # Without resources the same object for all that want the same lists: there are thousands, and most of them do.
        self._filter = _filter(*lists, uris) if uris else _kept_filter(*lists)
        self._uris = frozenset(uris)
        self._meta = {SUBSCRIPTION_ID_META_KEY: request.id}

    def __str__(self) -> str:
        """In words, for an operator: "tools, 2 resources"."""
        lists = {
            "tools": self._filter.tools_list_changed,
            "prompts": self._filter.prompts_list_changed,
            "lists of resources": self._filter.resources_list_changed,
        }
        words = [name for name, wanted in lists.items() if wanted]
        if self._uris:
            words.append("1 resource" if len(self._uris) == 1 else f"{len(self._uris)} resources")
        return ", ".join(words) or "nothing"

    def acknowledgement(self) -> dict[str, Any]:
        """The first message of the stream."""
        params = SubscriptionsAcknowledgedNotificationParams(notifications=self._filter, _meta=self._meta)
        return _message(SubscriptionsAcknowledgedNotification(params=params))

    def notification(self, event: ServerEvent) -> dict[str, Any] | None:
        """The message about an event; None for one that the client did not ask for."""
        if not event_matches(self._filter, self._uris, event):
            return None
        return _message(event_to_notification(event, self._meta))


def _filter(tools: bool, prompts: bool, resources: bool, uris: Sequence[str] = ()) -> SubscriptionFilter:
    """As the SDK: what is not wanted is left out, so that it is not acknowledged as a false value."""
    return SubscriptionFilter(
        tools_list_changed=tools or None,
        prompts_list_changed=prompts or None,
        resources_list_changed=resources or None,
        resource_subscriptions=list(uris) or None,
    )


_kept_filter = cache(_filter)


def _message(notification: BaseModel) -> dict[str, Any]:
    fields: Mapping[str, Any] = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
    return jsonrpc.notification(fields["method"], fields.get("params"))
