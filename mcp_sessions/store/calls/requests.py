"""Requests of the server to its client, whose answers may arrive at any node. They live with their session.

Every call but `answer` may be made again with the same arguments: nothing happens twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.store.call import Call, Script, is_readable

#: Progress notifications of one request that are kept.
MOST_PROGRESS: Final = 20
#: How long it is remembered that a response counted whose request is over.
COUNTED_MS: Final = 60_000

REGISTER: Final = Script("request_register", "_record", repeatable=True)
ANSWER: Final = Script("request_answer", "_record")
PROGRESS: Final = Script("request_progress", "_record", repeatable=True)
REPLIES: Final = Script("request_replies", "_record", repeatable=True)
WITHDRAW: Final = Script("request_withdraw", repeatable=True)
REFUSE: Final = Script("request_refuse", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """What a client has replied to a request so far."""

    #: Its newest progress notifications, oldest first.
    progress: Sequence[bytes]
    #: The place of the last of all: 1, 2, 3…; 0 if there is none.
    place: int
    #: Its response, if that has come.
    answer: bytes | None


def register(fingerprint: str, request: str, *, node: str, kept_ms: int) -> Call[bool]:
    """Register that `node` waits for the client's response to a request; before the request is sent. False if the
    session is gone.

    The node waits as long as it asks for `replies`, at least every `kept_ms`.
    """
    return Call(REGISTER, fingerprint, _parts(request), (node, kept_ms), is_readable)


def answer(fingerprint: str, request: str, *, payload: bytes) -> Call[str | None]:
    """Leave the client's response for the node that waits; which node. None if nobody waits, or it was answered.

    Of several answers exactly one wins, so the repetition of one that came through gets None as well.
    """
    return Call(ANSWER, fingerprint, _parts(request), (payload,), _node, secrets=(0,))


def progress(fingerprint: str, request: str, *, payload: bytes) -> Call[str | None]:
    """Leave the client's progress for the node that waits; which node. None if nobody waits, or it was answered.

    The newest twenty are kept. A payload that equals the one before it is taken for a repeated call.
    """
    return Call(PROGRESS, fingerprint, _parts(request), (payload, MOST_PROGRESS), _node, secrets=(0,))


def replies(fingerprint: str, request: str, *, after: int, kept_ms: int) -> Call[Replies | None]:
    """The client's progress after a place, and its response. None if there is no such request.

    All of it stays, for a repeated call, until `withdraw`, or for `kept_ms` from now on. A response that was read has
    counted, and is not refused any more.
    """
    return Call(REPLIES, fingerprint, _parts(request), (after, kept_ms), _replies)


def withdraw(fingerprint: str, request: str, *, kept_ms: int) -> Call[None]:
    """Nobody waits any more: a late answer is refused. That one counted is remembered for a minute, or `kept_ms`."""
    arguments = (min(COUNTED_MS, kept_ms),)
    return Call(WITHDRAW, fingerprint, _parts(request)[1:], arguments, lambda _, __: None)


def refuse(fingerprint: str, request: str) -> Call[bool]:
    """Refuse the response that was left for a node that is taken for dead. False if that node has read it: it counted.

    If True, nobody ever reads it.
    """
    return Call(REFUSE, fingerprint, _parts(request)[1:], (), lambda _, refused: bool(refused))


def _parts(request: str) -> tuple[str, str]:
    return ("session", "request:" + request)


def _node(fingerprint: str, reply: Any) -> str | None:
    node: str | None = reply[0].decode() if is_readable(fingerprint, reply) else None
    return node


def _replies(fingerprint: str, reply: Any) -> Replies | None:
    if not is_readable(fingerprint, reply):
        return None
    place, told, *response = reply
    return Replies(progress=told, place=place, answer=response[0] if response else None)
