"""What the SDK's kernel needs from us to reach the client: notifications and requests go through a channel."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from mcp_sessions.cluster.client_requests import ClientRequest
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)


class Channel(Protocol):
    """Carries messages to the client, in the order of the calls: one of our streams."""

    @property
    def can_send_request(self) -> bool:
        """Whether there is a stream to send a request on."""
        ...

    @property
    def log_level(self) -> str | None:
        """What the client asked for with `logging/setLevel`; less severe log messages are not sent."""
        ...

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification; best effort."""
        ...

    async def send_request(self, request: ClientRequest) -> jsonrpc.Reply:
        """Send a request to the client and wait for its response. Raises: TimedOut, SessionEnded, StoreUnavailable."""
        ...


class NoChannel:
    """The channel of a request that can have no stream, such as `initialize`."""

    can_send_request = False
    log_level = None

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        logger.debug("Dropped %s: there is no stream for it.", method)

    async def send_request(self, request: ClientRequest) -> jsonrpc.Reply:
        raise RuntimeError(f"{request.method} cannot be sent without a stream")
