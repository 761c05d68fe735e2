"""Which request, and in the handshake era which exchange, the running code belongs to."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.records import Handshake, Session
from mcp_sessions.store.drivers import Store


class CurrentRequest(Protocol):
    """What handlers of both eras may know of the request that they answer.

    Tasks that a handler starts keep it for as long as they run: it is to hold nothing large.
    """

    @property
    def conf(self) -> Endpoint:
        """The settings of the endpoint."""
        ...

    @property
    def store(self) -> Store: ...

    @property
    def principal(self) -> str:
        """Who asks."""
        ...

    @property
    def identity(self) -> Identity:
        """What authentication found out about who asks."""
        ...

    @property
    def address(self) -> str | None:
        """Where the request comes from; None if that is not known, or no limit asks for it."""
        ...

    @property
    def handshake(self) -> Handshake:
        """The protocol version, the client and its capabilities: of the session, or as the request says."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """The request's `_meta`, as sent."""
        ...


class CurrentExchange(Protocol):
    """The part of an exchange that is open to the code that runs inside it."""

    @property
    def session(self) -> Session:
        """The session as this request found it, with the tools that it has enabled since."""
        ...

    @property
    def identity(self) -> Identity:
        """What authentication found out about who asks."""
        ...

    @property
    def conf(self) -> Endpoint:
        """The settings of the endpoint."""
        ...

    @property
    def store(self) -> Store: ...

    @property
    def state_max_bytes(self) -> int:
        """STATE_MAX_BYTES of the endpoint."""
        ...

    @property
    def opt_in_tools(self) -> frozenset[str]:
        """The names of the server's opt-in tools."""
        ...

    async def change_tools(
        self, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
    ) -> frozenset[str]:
        """Enable or disable opt-in tools and tell the client. Raises: SessionGone, StoreUnavailable."""
        ...

    async def settle_session(self) -> None:
        """A revived session is an ordinary one from now on. Raises: SessionGone, StoreUnavailable."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """Says that the handler waits for its client, and must be cancelled if the session ends meanwhile."""
        ...


#: Set in the task that runs a handler, and so in the worker threads of sync handlers.
current_request: ContextVar[CurrentRequest] = ContextVar("mcp_sessions_current_request")
#: The same in the handshake era only, whose requests have a session.
current_exchange: ContextVar[CurrentExchange] = ContextVar("mcp_sessions_current_exchange")
