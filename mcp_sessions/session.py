"""What a tool, resource or prompt sees of the session it runs for. The session's id is not part of it."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions.current import CurrentExchange, current_exchange
from mcp_sessions.errors import NoCurrentSession
from mcp_sessions.records import Session
from mcp_sessions.state import State, SyncState

__all__ = ["CurrentSession", "Session", "current_session"]


class _NoSessionHere(NoCurrentSession, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client, so that its user can read what is missing."""


def current_session() -> "CurrentSession":
    """The session of the request that is being handled, in async handlers and in sync ones.

    Raises: NoCurrentSession outside a handler, during `initialize`, and in the modern era, which has no sessions.
    """
    exchange = current_exchange.get(None)
    if exchange is None:
        raise _NoSessionHere(
            "There is no session here. current_session() works inside tools, resources and prompts of a client "
            "that initialized a session; requests of protocol version 2026-07-28 and later have none."
        )
    return CurrentSession(exchange)


class CurrentSession:
    """One session, as a handler sees it. Its attributes are as this request found them; `state` is always current."""

    def __init__(self, exchange: CurrentExchange) -> None:
        self._exchange = exchange
        self._session = exchange.session

    def __repr__(self) -> str:
        return f"<CurrentSession {self._session.fingerprint:.12}>"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the session id. It names the session in logs and in the admin, and gives no access to it."""
        return self._session.fingerprint

    @property
    def client_info(self) -> Mapping[str, Any]:
        """The client's `clientInfo`: its own description of itself, which proves nothing."""
        return self._session.handshake.client_info

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """The client's `capabilities`, as sent."""
        return self._session.handshake.capabilities

    @property
    def protocol_version(self) -> str:
        return self._session.handshake.protocol_version

    @property
    def principal(self) -> str:
        """Who owns the session: "anonymous", "user:<pk>" or `oauth:["<issuer>","<subject>"]`."""
        return self._session.principal

    @property
    def user(self) -> Any:
        """What authentication left in the ASGI scope; Django's AnonymousUser if nothing."""
        return self._exchange.user if self._exchange.user is not None else AnonymousUser()

    @property
    def tools(self) -> frozenset[str]:
        """Names of the opt-in tools that the session has enabled."""
        return self._session.tools

    @property
    def state(self) -> State:
        """The session's state, for async handlers."""
        exchange = self._exchange
        return State(exchange.store, self.fingerprint, max_bytes=exchange.state_max_bytes)

    @property
    def state_sync(self) -> SyncState:
        """The session's state, for sync handlers, which run in worker threads."""
        return SyncState(self.state)

    async def enable_tools(self, *names: str) -> frozenset[str]:
        """Enable opt-in tools for this session; returns all that are enabled now.

        Raises: ValueError for a name that is not an opt-in tool. SessionGone. StoreUnavailable.
        """
        unknown = sorted(set(names) - self._exchange.opt_in_tools)
        if unknown:
            raise ValueError(
                f"Not opt-in tools of this server: {', '.join(unknown)}. Register them with OptInTools."
            )
        return await self._exchange.change_tools(enable=names)

    async def disable_tools(self, *names: str) -> frozenset[str]:
        """Disable opt-in tools for this session; returns those still enabled. Raises: SessionGone, StoreUnavailable."""
        return await self._exchange.change_tools(disable=names)
