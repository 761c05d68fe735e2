"""What nodes tell each other, and its one encoding.

The encoded form is a JSON object: the version of the format, the type, the fields, and the name if it is a broadcast. A
node skips what it cannot read, and ignores fields that it does not know: a newer release may send more types, and more
fields of a type. So neither needs a new version; a changed meaning of an existing one does.
"""

import json
from dataclasses import dataclass, fields
from typing import Any, Final, get_args, get_origin, get_type_hints

VERSION: Final = 1
#: The methods of `Announced`.
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
#: Characters of an unknown type or version that are logged.
_SHOWN_CHARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChanged:
    """A message was appended to a stream that the receiving node delivers."""

    fingerprint: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamClaimed:
    """Another connection took over a stream that the receiving node delivered."""

    fingerprint: str
    stream: str
    #: The token of the new claim.
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReleased:
    """A session's standalone stream has gone back to a connection of the receiving node, as far as the sender knows."""

    fingerprint: str
    #: The token of that connection's claim.
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDisconnected:
    """A handler closes the connection with which the receiving node delivers a stream; its client may resume."""

    fingerprint: str
    stream: str
    #: The token of that connection's claim.
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyArrived:
    """The client replied to a request that the receiving node waits for, or reported progress."""

    fingerprint: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsEnded:
    """These sessions were ended before their time: close what is open of them."""

    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinCreatedRaised:
    """Sessions that were opened before a moment no longer count (broadcast)."""

    #: Milliseconds since the epoch, by the store's clock.
    min_created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksChanged:
    """There are other blocks in the database than the receiving node has read (broadcast)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastsPosted:
    """There are broadcasts in the store that the receiving node has not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Clients cancelled requests that the node that received the cancellations does not run (broadcast)."""

    #: For each request the fingerprint of its session, a colon, and a hash of its id, which may be long.
    requests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCancelled:
    """An operator cancelled a request that a node answers (broadcast)."""

    node: str
    #: The request's number among those of that process.
    number: int
    #: Who did it, for the log.
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainAsked:
    """An operator asked the process of a node to take on nothing new, or to do so again (broadcast)."""

    node: str
    drains: bool
    #: Who did it, for the log.
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The server announced that tools, prompts, resources or one resource changed (broadcast)."""

    method: str
    #: The resource that changed; None for the announcements of changed lists.
    uri: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorActed:
    """An operator did something that every node writes into its log."""

    by: str
    what: str


Notification = (
    StreamChanged
    | StreamClaimed
    | StreamReleased
    | StreamDisconnected
    | ReplyArrived
    | SessionsEnded
    | MinCreatedRaised
    | BlocksChanged
    | BroadcastsPosted
    | Cancelled
    | CallCancelled
    | DrainAsked
    | Announced
    | OperatorActed
)

_TYPES: Final[dict[str, type[Any]]] = {cls.__name__: cls for cls in get_args(Notification)}
_HINTS: Final = {cls: get_type_hints(cls) for cls in _TYPES.values()}


class Unreadable(Exception):
    """A notification of an unknown type or version, or none at all. `kind` says which; it is short."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Envelope:
    """A notification as it travels."""

    notification: Notification
    #: Different for each broadcast: a node that reads one twice, because posting it was repeated, hears it once. ""
    #: for what is not a broadcast.
    name: str = ""


def encode(notification: Notification, *, name: str = "") -> bytes:
    """The encoded form; `name` for a broadcast."""
    envelope: dict[str, Any] = {"version": VERSION, "type": type(notification).__name__}
    if name:
        envelope["name"] = name
    envelope["fields"] = {each.name: getattr(notification, each.name) for each in fields(notification)}
    return json.dumps(envelope, separators=(",", ":")).encode("ascii")


def decode(encoded: bytes) -> Envelope:
    """What was encoded. Raises: Unreadable."""
    try:
        envelope = json.loads(encoded)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    match envelope:
        case {"version": int(version), "type": str(kind), "fields": dict(values)} if version == VERSION:
            name = envelope.get("name", "")
        case {"version": int(version)} if version != VERSION:
            raise Unreadable(f"version {str(version)[:_SHOWN_CHARS]}")
        case _:
            raise Unreadable("not a notification")
    cls = _TYPES.get(kind)
    if cls is None:
        raise Unreadable(f"type {kind[:_SHOWN_CHARS]!a}")
    hints = _HINTS[cls]
    if not hints.keys() <= values.keys() or not isinstance(name, str):
        raise Unreadable(f"{kind} with other fields")
    return Envelope(cls(**{key: _checked(kind, values[key], hint) for key, hint in hints.items()}), name)


def _checked(kind: str, value: Any, hint: Any) -> Any:
    """The value as its field has it. Raises: Unreadable for a value of another type."""
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
    elif isinstance(value, hint):
        return value
    raise Unreadable(f"{kind} with values of another type")
