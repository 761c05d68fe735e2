"""Requests of the server to its client, whose answers may arrive at any node.

The node that sends a request registers it in the store, puts it on a stream, and waits. The node that receives the
client's response, or its progress, leaves it in the store, where exactly one response wins, and notifies the node that
waits; without the notification a heartbeat finds it. A response that nobody waits for is refused: one that came late or
twice, and one for a node that died, as soon as that is known. The store decides whether a response counts or is
refused, also when a node that was taken for dead wakes up at that moment.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import ReplyArrived
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import requests
from mcp_sessions.store.drivers import Store
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

#: The ids that requests to the client have: what else a client sends never becomes part of a key.
_REQUEST_ID: Final = re.compile(r"q[0-9a-f]{16}\Z")

#: Characters of a progress message that are kept for the node that waits.
MAX_PROGRESS_CHARS: Final = 1_000

#: Puts a message on the stream that the request belongs to.
Say = Callable[[Mapping[str, Any]], Awaitable[object]]
#: Gets the params of the client's `notifications/progress`.
OnProgress = Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]]
#: Runs a coroutine beside the caller.
Spawn = Callable[[Any], object]


class TimedOut(Exception):
    """The client did not answer in time."""


class SessionEnded(Exception):
    """The session ended before the client answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """A request to the client, as a handler makes it."""

    method: str
    params: Mapping[str, Any] | None
    #: Seconds to wait for the response; None for REQUEST_TIMEOUT.
    timeout: float | None = None
    on_progress: OnProgress | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _OpenRequest:
    """A request that waits for its response."""

    fingerprint: str
    id: str
    on_progress: OnProgress | None
    #: Whether the store knows of it. If it does not any more, no response can come.
    registered: bool = False
    #: The place of the newest progress that was passed on.
    heard: int = 0
    reply: "asyncio.Future[jsonrpc.Reply]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def has_given_up(self) -> bool:
        """Whether nobody waits any more, although no response came."""
        return self.reply.cancelled() or (self.reply.done() and self.reply.exception() is not None)

    def lose(self) -> None:
        """Every response is refused from now on: the store refused one, or has lost the request."""
        if not self.reply.done():
            self.reply.set_exception(TimedOut())

    def resolve(self, payload: bytes) -> None:
        """The client's response is there; once."""
        if not self.reply.done():
            result, error = json.loads(payload)
            self.reply.set_result(jsonrpc.Reply(id=self.id, result=result, error=error))


class ClientRequests:
    """The requests to clients that one node waits for.

    `is_dead` says whether a node that waited is known to be dead; it may raise StoreUnavailable.
    """

    def __init__(
        self,
        store: Store,
        node: Node,
        *,
        conf: Callable[[], Endpoint],
        spawn: Spawn,
        is_dead: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._node = node
        self._conf = conf
        self._spawn = spawn
        self._is_dead = is_dead
        self._open: dict[tuple[str, str], _OpenRequest] = {}

    async def send(self, fingerprint: str, request: ClientRequest, say: Say) -> jsonrpc.Reply:
        """Send a request on the stream that `say` puts messages on, and wait for its response.

        Raises: TimedOut, also when no response can come any more, and the client is told that it need not answer.
            SessionEnded. StoreUnavailable.
        """
        timeout = self._conf().request_timeout if request.timeout is None else request.timeout
        waiting = _OpenRequest(
            fingerprint=fingerprint, id=f"q{secrets.token_hex(8)}", on_progress=request.on_progress
        )
        self._open[fingerprint, waiting.id] = waiting
        try:
            await self._register(waiting)
            await say(_message(waiting, request))
            async with asyncio.timeout(timeout):
                return await waiting.reply
        except TimeoutError:
            await say(_cancellation(waiting))
            raise TimedOut from None
        except (TimedOut, asyncio.CancelledError):
            await say(_cancellation(waiting))
            raise
        finally:
            del self._open[fingerprint, waiting.id]
            self._spawn(self._withdraw(fingerprint, waiting.id))

    @property
    def _kept_ms(self) -> int:
        """For how many milliseconds the store keeps a request for a node that does not ask for its replies.

        As long as a stream: nothing of a session outlasts it by more.
        """
        return self._conf().stream_limits.ttl_ms

    async def _register(self, waiting: _OpenRequest) -> None:
        registered = await self._store.run(
            requests.register(waiting.fingerprint, waiting.id, node=self._node.id, kept_ms=self._kept_ms)
        )
        if not registered:
            raise SessionEnded
        waiting.registered = True

    async def _withdraw(self, fingerprint: str, request_id: str) -> None:
        try:
            await self._store.run(requests.withdraw(fingerprint, request_id, kept_ms=self._kept_ms))
        except StoreUnavailable as error:
            logger.debug("A request to a client is left to its timeout: %s", error)

    async def answer(self, fingerprint: str, reply: jsonrpc.Reply) -> bool:
        """A client's response arrived here: take it to the node that waits. False if nobody waits.

        Raises: StoreUnavailable.
        """
        request_id = str(reply.id)
        if not _REQUEST_ID.match(request_id):
            return False
        # Looked up first: a heartbeat may find the response, and the handler go on, before the store has replied.
        waiting = self._open.get((fingerprint, request_id))
        payload = json.dumps([reply.result, reply.error]).encode("ascii")
        # The store decides which response wins, also when this node is the one that waits: another may have been given
        # a second response at this moment. The payload goes with it, so that a heartbeat finds the response if the
        # store's reply is lost.
        node = await self._store.run(requests.answer(fingerprint, request_id, payload=payload))
        if node is None:
            return False
        if node == self._node.id:
            return waiting is not None and self._hand_over(waiting, payload)
        if await self._is_dead(node) and await self._store.run(requests.refuse(fingerprint, request_id)):
            return False
        self._node.notify(node, ReplyArrived(fingerprint=fingerprint, request_id=request_id))
        return True

    def _hand_over(self, waiting: _OpenRequest, payload: bytes) -> bool:
        """Give a response that won to the handler that waits for it in this process; False if it has given up."""
        if waiting.has_given_up:
            return False
        if waiting.on_progress is None:
            # The payload is at hand: nothing has to be read back.
            waiting.resolve(payload)
        else:
            # Other nodes may have left progress in the store that is to be passed on before the response.
            self._spawn(self._fetch(waiting))
        return True

    async def progress(self, fingerprint: str, params: Mapping[str, Any]) -> None:
        """A client's progress arrived here: leave it for the node that waits, if any. Raises: StoreUnavailable."""
        request_id = str(params.get("progressToken"))
        if not _REQUEST_ID.match(request_id):
            return
        payload = json.dumps(_bounded(params)).encode("ascii")
        node = await self._store.run(requests.progress(fingerprint, request_id, payload=payload))
        if node is not None:
            self._node.notify(node, ReplyArrived(fingerprint=fingerprint, request_id=request_id))

    def hear(self, fingerprint: str, request_id: str) -> None:
        """A notification says that the client replied, or reported progress."""
        waiting = self._open.get((fingerprint, request_id))
        if waiting is not None:
            self._spawn(self._fetch(waiting))

    async def look(self) -> None:
        """A heartbeat: look for replies whose notification was lost."""
        await asyncio.gather(*(self._fetch(waiting) for waiting in tuple(self._open.values())))

    async def _fetch(self, waiting: _OpenRequest) -> None:
        """Take from the store what the client said so far."""
        try:
            replies = await self._store.run(
                requests.replies(waiting.fingerprint, waiting.id, after=waiting.heard, kept_ms=self._kept_ms)
            )
        except StoreUnavailable as error:
            logger.debug("An answer is fetched later: %s", error)
            return
        if replies is None:
            if waiting.registered:
                waiting.lose()
            return
        new, waiting.heard = replies.place - waiting.heard, max(replies.place, waiting.heard)
        if new > 0 and waiting.on_progress is not None:
            for payload in replies.progress[-new:]:
                self._spawn(waiting.on_progress(json.loads(payload)))
        if replies.answer is not None:
            waiting.resolve(replies.answer)

    def end(self, fingerprint: str) -> None:
        """The session ended: nobody will answer."""
        for waiting in tuple(self._open.values()):
            if waiting.fingerprint == fingerprint and not waiting.reply.done():
                waiting.reply.set_exception(SessionEnded())


def _message(waiting: _OpenRequest, request: ClientRequest) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": waiting.id, "method": request.method}
    params = dict(request.params or {})
    if request.on_progress is not None:
        params["_meta"] = {**(params.get("_meta") or {}), "progressToken": waiting.id}
    return {**message, "params": params} if params else message


def _bounded(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a client's progress says, without anything else, and bounded."""
    numbers = {name: params[name] for name in ("progress", "total") if _is_number(params.get(name))}
    message = params.get("message")
    return {**numbers, "message": message[:MAX_PROGRESS_CHARS]} if isinstance(message, str) else numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63


def _cancellation(waiting: _OpenRequest) -> dict[str, Any]:
    return jsonrpc.notification(
        "notifications/cancelled", {"requestId": waiting.id, "reason": "nobody waits any more"}
    )
