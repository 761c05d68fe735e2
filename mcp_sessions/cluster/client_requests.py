"""Requests from the server to the client, whose answers may arrive at any process.

The asking process registers the question, says it on a stream, and waits. The process that gets the client's response,
or its progress, leaves it in the store, where exactly one response wins, and rings; a heartbeat finds it too. A
response that nobody waits for is refused: one that came late or twice, and one for a process that died, as soon as that
is known.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions.cluster.node import Bus
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import requests
from mcp_sessions.store.drivers import Store
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

#: The ids that requests to the client have: what else a client sends never becomes part of a key.
_QUESTION_ID: Final = re.compile(r"q[0-9a-f]{16}\Z")

#: Characters of a progress message that are kept for the node that waits.
MAX_PROGRESS_CHARS: Final = 1_000

#: Puts a message on the stream that the question belongs to.
Say = Callable[[Mapping[str, Any]], Any]
#: Called with the params of the client's `notifications/progress`.
OnProgress = Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]]


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


@dataclass(kw_only=True, eq=False)
class Question:
    """One request that waits for its response."""

    fingerprint: str
    id: str
    on_progress: OnProgress | None
    #: The place of the newest progress that was passed on.
    heard: int = 0
    reply: "asyncio.Future[jsonrpc.Reply]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Questions:
    """The questions that one node waits for."""

    def __init__(
        self,
        store: Store,
        node: Bus,
        *,
        conf: Callable[[], Endpoint],
        spawn: Callable[[Coroutine[Any, Any, Any]], None],
        is_dead: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._node = node
        self._conf = conf
        self._spawn = spawn
        self._is_dead = is_dead
        self._open: dict[tuple[str, str], Question] = {}

    async def ask(self, fingerprint: str, ask: ClientRequest, say: Say) -> jsonrpc.Reply:
        """Send a request on the stream that `say` puts messages on, and wait for its response.

        Raises: TimedOut, and the client is told that it need not answer any more. SessionEnded. StoreUnavailable.
        """
        timeout = self._conf().request_timeout if ask.timeout is None else ask.timeout
        question = Question(
            fingerprint=fingerprint, id=f"q{secrets.token_hex(8)}", on_progress=ask.on_progress
        )
        self._open[fingerprint, question.id] = question
        try:
            await self._register(question, timeout)
            await say(_request(question, ask.method, ask.params))
            async with asyncio.timeout(timeout):
                return await question.reply
        except TimeoutError:
            await say(_cancelled(question))
            raise TimedOut from None
        except asyncio.CancelledError:
            await say(_cancelled(question))
            raise
        finally:
            del self._open[fingerprint, question.id]
            self._spawn(self._withdraw(question))

    async def _register(self, question: Question, timeout: float) -> None:  # noqa: ASYNC109 - for the store to keep
        registered = await self._store.run(
            requests.register(
                question.fingerprint, question.id, node=self._node.node, timeout_ms=round(timeout * 1000)
            )
        )
        if not registered:
            raise SessionEnded

    async def _withdraw(self, question: Question) -> None:
        try:
            await self._store.run(requests.withdraw(question.fingerprint, question.id))
        except StoreUnavailable as error:
            logger.info("A question is left to its timeout: %s", error)

    async def answer(self, fingerprint: str, reply: jsonrpc.Reply) -> bool:
        """A client's response arrived here: leave it for whoever waits. False if nobody does.

        Raises: StoreUnavailable.
        """
        question_id = str(reply.id)
        if not _QUESTION_ID.match(question_id):
            return False
        payload = json.dumps([reply.result, reply.error]).encode("ascii")
        node = await self._store.run(requests.answer(fingerprint, question_id, payload=payload))
        if node is None or await self._is_dead(node):
            return False
        self._tell(node, fingerprint, question_id)
        return True

    async def progress(self, fingerprint: str, params: Mapping[str, Any]) -> None:
        """A client's progress arrived here: leave it for whoever waits, if anybody does. Raises: StoreUnavailable."""
        question_id = str(params.get("progressToken"))
        if not _QUESTION_ID.match(question_id):
            return
        payload = json.dumps(_said(params)).encode("ascii")
        node = await self._store.run(requests.progress(fingerprint, question_id, payload=payload))
        if node is not None:
            self._tell(node, fingerprint, question_id)

    def _tell(self, node: str, fingerprint: str, question_id: str) -> None:
        self._node.ring(node, {"t": "reply", "s": fingerprint, "q": question_id})

    def hear(self, fingerprint: str, question_id: str) -> None:
        """A doorbell says that the client said something."""
        question = self._open.get((fingerprint, question_id))
        if question is not None:
            self._spawn(self._take(question))

    async def look(self) -> None:
        """A heartbeat: look for replies whose doorbell was lost."""
        await asyncio.gather(*(self._take(question) for question in tuple(self._open.values())))

    async def _take(self, question: Question) -> None:
        try:
            replies = await self._store.run(
                requests.replies(question.fingerprint, question.id, after=question.heard)
            )
        except StoreUnavailable as error:
            logger.warning("An answer is fetched later: %s", error)
            return
        if replies is None:
            return
        new, question.heard = replies.place - question.heard, max(replies.place, question.heard)
        if new > 0 and question.on_progress is not None:
            for payload in replies.progress[-new:]:
                self._spawn(question.on_progress(json.loads(payload)))
        if replies.answer is not None and not question.reply.done():
            result, error_data = json.loads(replies.answer)
            question.reply.set_result(jsonrpc.Reply(id=question.id, result=result, error=error_data))

    def end(self, fingerprint: str) -> None:
        """The session ended: nobody will answer."""
        for question in tuple(self._open.values()):
            if question.fingerprint == fingerprint and not question.reply.done():
                question.reply.set_exception(SessionEnded())


def _request(question: Question, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": question.id, "method": method}
    sent = dict(params or {})
    if question.on_progress is not None:
        sent["_meta"] = {**(sent.get("_meta") or {}), "progressToken": question.id}
    return {**message, "params": sent} if sent else message


def _said(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a client's progress says, without anything else, and bounded."""
    numbers = {name: params[name] for name in ("progress", "total") if _is_number(params.get(name))}
    message = params.get("message")
    return {**numbers, "message": message[:MAX_PROGRESS_CHARS]} if isinstance(message, str) else numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63


def _cancelled(question: Question) -> dict[str, Any]:
    return jsonrpc.notification(
        "notifications/cancelled", {"requestId": question.id, "reason": "nobody waits any more"}
    )
