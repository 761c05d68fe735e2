"""Looks at what a node holds: whether its sessions live, and its idle streams have news. They change nothing."""

from collections.abc import Sequence
from math import inf
from typing import Any, Final, NamedTuple

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, Script

#: How many looks fit into one round trip.
TOGETHER: Final = 250

LOOK: Final = Script("look", "_record", repeatable=True, takes_many=True, pipe="looks")


class Held(NamedTuple):
    """A session that a node holds, and a stream of it."""

    fingerprint: str
    #: "" for none.
    stream: str = ""
    #: The token of the claim that delivers the stream, as far as is known, 0 for nobody's; None to compare nothing.
    token: int | None = None
    #: The position that the node has delivered; None if it does not deliver.
    position: int | None = None


class Found(NamedTuple):
    """What a look found of a session that lives, and of a stream."""

    #: Milliseconds since the session's last activity; less than 0 if the store's clock was set back.
    since_ms: int
    #: Milliseconds until its maximum age, if it is near.
    left_ms: float = inf
    #: Whether the stream is to be read: another claim delivers it, it is gone, has ended, or its last message is not at
    #: the position.
    changed: bool = False
    #: Whether the session was opened before the first one that counts.
    barred: bool = False


def look(held: Sequence[Held], *, first_ms: int = 0) -> Operation[list[Found | StoreUnavailable | None]]:
    """What there is of each; None for no session, or one that cannot be read. No session counts from before `first_ms`.

    Where a part of the store is away, the others are found.
    """
    return (yield [_look(each, first_ms) for each in held])


def _look(held: Held, first_ms: int) -> Call[Found | None]:
    parts = ("session", "stream-info:" + held.stream)
    known = ["" if each is None else each for each in (held.token, held.position)]
    return Call(LOOK, held.fingerprint, parts, (*known, first_ms), _found, fails_alone=True)


def _found(_: str, reply: Any) -> Found | None:
    if type(reply) is not list:
        return None if reply is None else Found(reply)
    since_ms, left_ms, changed, barred = reply
    return Found(since_ms, left_ms, changed == 1, barred == 1)
