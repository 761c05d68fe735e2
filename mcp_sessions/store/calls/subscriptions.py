"""The resources that a session subscribes to. They live with it, in its slot, and end with it, in the same act.

Every call may be made again with the same arguments: nothing happens twice.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from mcp_sessions.store.call import Call, Operation, Script, is_readable

#: The last part of their key.
RESOURCES: Final = "resources"
#: Characters of a URI that are kept, for operators. What is announced is found by the digest of the whole one.
URI_CHARS: Final = 500

_PARTS: Final = ("session", RESOURCES)

SUBSCRIBE: Final = Script("subscribe", "_record", repeatable=True)
UNSUBSCRIBE: Final = Script("unsubscribe", "_record", repeatable=True)
SUBSCRIBED: Final = Script("subscribed", "_record", repeatable=True)
LIST: Final = Script("subscriptions", "_record", repeatable=True)


def subscribe(fingerprint: str, uri: str, *, max_subscriptions: int) -> Call[bool | None]:
    """Remember a resource subscription. False if there are too many. None if the session is gone."""
    # In quotes, because a sealer reads what begins with a bracket as a list of items.
    arguments = (_digest(uri), max_subscriptions, json.dumps(uri[:URI_CHARS]))
    return Call(SUBSCRIBE, fingerprint, _PARTS, arguments, _flag, secrets=(2,))


def unsubscribe(fingerprint: str, uri: str) -> Call[bool | None]:
    """Forget it; whether it was remembered. None if the session is gone."""
    return Call(UNSUBSCRIBE, fingerprint, _PARTS, (_digest(uri),), _flag)


def subscribed(fingerprints: Sequence[str], uri: str) -> Operation[frozenset[str]]:
    """Which of these sessions subscribe to a resource."""
    arguments = (_digest(uri),)
    found = yield [Call(SUBSCRIBED, each, _PARTS, arguments, _flag) for each in fingerprints]
    return frozenset(each for each, subscribes in zip(fingerprints, found, strict=True) if subscribes)


def resources(fingerprint: str) -> Call[list[str]]:
    """To what a session subscribes, sorted: the first URI_CHARS of each URI. Nothing if the session is gone."""
    return Call(LIST, fingerprint, _PARTS, (), _uris)


def _uris(fingerprint: str, reply: Any) -> list[str]:
    return sorted(json.loads(text) for text in reply[1::2]) if is_readable(fingerprint, reply) else []


def _flag(fingerprint: str, reply: Any) -> bool | None:
    return bool(reply[0]) if is_readable(fingerprint, reply) else None


def _digest(uri: str) -> bytes:
    """However long a client's URIs are, its subscriptions are bounded."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()
