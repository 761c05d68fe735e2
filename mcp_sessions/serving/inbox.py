"""What this process does when it is told something about a session, mostly by another process."""

import logging
from collections.abc import Mapping
from typing import Any

from mcp_sessions import subscriptions
from mcp_sessions.authentication.blocking import blocks_of
from mcp_sessions.cluster.client_requests import ClientRequests
from mcp_sessions.cluster.notifications import (
    Announced,
    BlocksChanged,
    CallCancelled,
    Cancelled,
    DrainAsked,
    MinCreatedRaised,
    Notification,
    OperatorActed,
    ReplyArrived,
    SessionsEnded,
    StreamChanged,
    StreamClaimed,
    StreamDisconnected,
    StreamReleased,
)
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.cancellations import Cancellations
from mcp_sessions.serving.listeners import Listeners
from mcp_sessions.serving.operating import Operating
from mcp_sessions.serving.outage import Outage
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.standalone import publish_to_all
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)


class Inbox:
    """Takes the notifications of one endpoint to the parts that they concern."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        open_streams: OpenStreams,
        client_requests: ClientRequests,
        listeners: Listeners,
        outage: Outage,
        operating: Operating,
    ) -> None:
        self._context = context
        self._admission = admission
        self._open_streams = open_streams
        self._client_requests = client_requests
        self._listeners = listeners
        self._outage = outage
        self._operating = operating
        self._cancellations = Cancellations(context)

    def hear(self, notification: Notification, name: str) -> None:
        """Act on a notification; `name` is that of a broadcast."""
        match notification:
            case StreamChanged(fingerprint=fingerprint, stream=stream):
                self._open_streams.nudge(fingerprint, stream)
            case StreamClaimed(fingerprint=fingerprint, stream=stream, token=token):
                self._claimed(fingerprint, stream, token)
            case StreamReleased(fingerprint=fingerprint, token=token):
                self._open_streams.hear_released(fingerprint, token)
            case StreamDisconnected(fingerprint=fingerprint, stream=stream, token=token):
                self._open_streams.disconnect(fingerprint, stream, token)
            case ReplyArrived(fingerprint=fingerprint, request_id=request_id):
                self._client_requests.hear(fingerprint, request_id)
            case Cancelled(requests=names):
                self._admission.cancel_named(names)
            case CallCancelled(node=node, number=number, by=by) if node == self._context.node.id:
                self._operating.cancel(number, by)
            case DrainAsked(node=node, drains=drains, by=by) if node == self._context.node.id:
                self._operating.drain(drains=drains, by=by)
            case SessionsEnded(fingerprints=fingerprints):
                self._outage.hear_ended(fingerprints)
                for fingerprint in fingerprints:
                    self.close_session(fingerprint)
                    self._listeners.end(fingerprint)
            case MinCreatedRaised(min_created_ms=min_created_ms):
                self._context.node.validity.raise_to(min_created_ms)
            case OperatorActed(by=by, what=what):
                logger.warning("%s, by %r.", what, by)
            case BlocksChanged():
                self._context.spawn(blocks_of(self._context.conf().alias).load())
            case Announced(method=method, uri=uri):
                subscriptions.hear(self._context.conf().alias, notification)
                listening = self._open_streams.listening
                self._context.spawn(publish_to_all(self._context, listening, method, uri, key=name))

    def _claimed(self, fingerprint: str, stream: str, token: int) -> None:
        """Another process delivers a stream from now on: close the connections that this process has for it."""
        for exchange in self._admission.of(fingerprint):
            writer = exchange.stream
            if writer is not None and writer.name == stream and writer.claim and writer.claim.token < token:
                writer.event_stream.end()
        self._open_streams.nudge(fingerprint, stream)

    async def cancel(self, fingerprint: str, params: Mapping[str, Any]) -> bool:
        """Cancel the request that a `notifications/cancelled` names, in whichever process it runs.

        False if too many were named that do not run here; then no other process is told of this one.
        Raises: StoreUnavailable, if it does not run here and others may not be told.
        """
        request_id = params.get("requestId")
        if not jsonrpc.is_request_id(request_id) or self._admission.cancel(fingerprint, request_id):
            return True
        return await self._cancellations.tell(fingerprint, request_id)

    def close_session(self, fingerprint: str) -> None:
        """Close the open streams of a session that ended, and cancel the handlers that wait for its client."""
        self._close(fingerprint)
        for exchange in self._admission.of(fingerprint):
            if exchange.stream is not None:
                exchange.stream.event_stream.end()

    async def session_missing(self, fingerprint: str) -> None:
        """As `close_session` for one that the store does not have. Unless it was ended, calls still answer who waits.

        Raises: StoreUnavailable.
        """
        if await self._context.store.run(sessions.end_reason(fingerprint)):
            self.close_session(fingerprint)
        else:
            self._close(fingerprint)

    def _close(self, fingerprint: str) -> None:
        for reader in self._open_streams.of(fingerprint):
            reader.event_stream.end()
        for exchange in self._admission.of(fingerprint):
            if exchange.waits_for_client:
                exchange.abort()
        self._client_requests.end(fingerprint)
