"""What a tool, resource or prompt sees of the session it runs for. The session's id is not part of it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from anyio import from_thread
from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions.current import CurrentExchange, CurrentRequest, current_exchange, current_request
from mcp_sessions.documentation import page
from mcp_sessions.errors import NoCurrentSession
from mcp_sessions.implicit import ImplicitRecord
from mcp_sessions.records import ANONYMOUS, Session, record_fingerprint
from mcp_sessions.state import State, SyncState

__all__ = ["CurrentConversation", "CurrentSession", "Session", "current_session"]

logger = logging.getLogger(__name__)

#: Characters of a conversation's id, as the host sends it.
MAX_CONVERSATION_CHARS: Final = 200
_NO_TOOLS: Final[frozenset[str]] = frozenset()
#: The endpoints whose operator has been told in this process that a tool needs a session.
_told: Final[set[str]] = set()


class _NoSessionHere(NoCurrentSession, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client, so that its user can read what is missing."""


def current_session() -> "CurrentSession":
    """The session of the request that is being handled, in async handlers and in sync ones.

    In the modern era, which has no sessions, it is the conversation that an authenticated client's host names under one
    of CONVERSATION_KEYS.

    Raises: NoCurrentSession outside a handler, during `initialize`, and in the modern era for requests that name no
    conversation.
    """
    exchange = current_exchange.get(None)
    if exchange is not None:
        return CurrentSession(exchange)
    request = current_request.get(None)
    if request is None:
        raise _NoSessionHere(
            "There is no session here. current_session() works inside tools, resources and prompts of a client "
            f"that initialized a session. {page('troubleshooting', 'there-is-no-session')}"
        )
    conversation = _conversation(request)
    if conversation is not None:
        return conversation
    if request.conf.alias not in _told:
        _told.add(request.conf.alias)
        logger.warning(
            "A tool of endpoint %r asked for a session in a request of the modern era, which has none. If it cannot do "
            'without: ERAS = ["handshake"] has clients that can open a session do so, and state handles work in both '
            "eras. %s",
            request.conf.alias,
            page("troubleshooting", "there-is-no-session"),
        )
    raise _NoSessionHere("There is no session here. This tool needs a client that opens a session.")


def _conversation(request: CurrentRequest) -> "CurrentConversation | None":
    """The conversation that a request names, under the first of CONVERSATION_KEYS that it has."""
    keys = request.conf.conversation_keys
    if not keys or request.principal == ANONYMOUS:
        return None
    for key in keys:
        value = request.meta.get(key)
        if isinstance(value, str) and 0 < len(value) <= MAX_CONVERSATION_CHARS:
            return CurrentConversation(request, key, value)
    return None


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
        """Django's user: whom authentication has found, or whom SUBJECT_TO_USER gives for the subject of a token.

        AnonymousUser without authentication; None if a subject has no active user. A user who must be looked for is
        loaded here, once for a request.

        Raises: SynchronousOnlyOperation in async code, if the user is not loaded yet: use `auser()` there.
        """
        request = self._asking
        return request.identity.find_user(request.conf)

    async def auser(self) -> Any:
        """The same as `user`, for async code."""
        request = self._asking
        return await request.identity.afind_user(request.conf)

    @property
    def _asking(self) -> CurrentExchange | CurrentRequest:
        """Whose request it is."""
        return self._exchange

    @property
    def tools(self) -> frozenset[str]:
        """Names of the opt-in tools that the session has enabled."""
        return self._session.tools

    @property
    def revived(self) -> bool:
        """Whether the session's record was gone and its id opened it again, with empty state: by this request or an
        earlier one, and nobody has called `settle()` since. Only with ON_MISS = "revive".
        """
        return self._exchange.session.revived

    async def settle(self) -> None:
        """Say that the tools have put into a revived session what they need: `revived` is False from now on.

        Raises: SessionGone, StoreUnavailable.
        """
        if self.revived:
            await self._exchange.settle_session()

    def settle_sync(self) -> None:
        """The same for sync handlers, which run in worker threads."""
        from_thread.run(self.settle)

    @property
    def state(self) -> State:
        """The session's state, for async handlers."""
        exchange = self._exchange
        return State(exchange.store, self.fingerprint, max_bytes=exchange.state_max_bytes)

    @property
    def state_sync(self) -> SyncState:
        """The same as `state`, for sync handlers, which run in worker threads."""
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


class CurrentConversation(CurrentSession):
    """A conversation of a client of the modern era, which its host names. It belongs to the principal.

    The name is the host's word, and proves nothing. It has what a session has, except what needs an open connection.
    """

    def __init__(self, request: CurrentRequest, key: str, value: str) -> None:
        """`value` is the conversation's id, under `key` in the request's `_meta`."""
        self._request = request
        self._key = key
        self._value = value
        self._fingerprint = record_fingerprint("conversation", request.principal, key, value)

    def __repr__(self) -> str:
        return f"<CurrentConversation {self._fingerprint:.12}>"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of principal, key and id. It names the conversation in logs and in the admin."""
        return self._fingerprint

    @property
    def client_info(self) -> Mapping[str, Any]:
        """The client's own description of itself in this request, which proves nothing."""
        return self._request.handshake.client_info

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """The client's capabilities in this request, as sent."""
        return self._request.handshake.capabilities

    @property
    def protocol_version(self) -> str:
        return self._request.handshake.protocol_version

    @property
    def principal(self) -> str:
        """Who owns the conversation; never "anonymous"."""
        return self._request.principal

    @property
    def _asking(self) -> CurrentRequest:
        return self._request

    @property
    def tools(self) -> frozenset[str]:
        """Empty: the modern era has no opt-in tools."""
        return _NO_TOOLS

    @property
    def revived(self) -> bool:
        """False: a conversation has no id that could open it again."""
        return False

    async def settle(self) -> None:
        """There is nothing to say."""

    @property
    def state(self) -> State:
        """The conversation's state, for async handlers. It is made on the first write, and lives as a session does."""
        conf, principal = self._request.conf, self.principal
        record = ImplicitRecord(
            self._request.store,
            self._fingerprint,
            principal=principal,
            alias=conf.alias,
            # Made by a write, it is in use: FIRST_TTL is for sessions that nobody has used.
            limits=replace(conf.limits, first_ms=conf.limits.idle_ms),
            handshake=lambda: self._request.handshake.for_record(
                "conversation", label=self._key, name=self._value
            ),
        )
        return State(record, self._fingerprint, max_bytes=conf.state_max_bytes)

    async def enable_tools(self, *names: str) -> frozenset[str]:
        """Raises: NoCurrentSession. Opt-in tools need a session."""
        raise _NoSessionHere("Tools can only be enabled for a session. Use a client that opens a session.")

    async def disable_tools(self, *names: str) -> frozenset[str]:
        """Raises: NoCurrentSession. Opt-in tools need a session."""
        raise _NoSessionHere("Tools can only be disabled for a session. Use a client that opens a session.")
