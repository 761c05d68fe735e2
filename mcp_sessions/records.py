"""What a session is: its record, and the fingerprints of records that are no sessions. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, get_args

FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}\Z")
#: A whole fingerprint, or enough of its first digits to look for.
FINGERPRINT_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}\Z")

ANONYMOUS: Final = "anonymous"
#: How the principals begin that name a person or an account. Others are nobody in particular: anonymous, or an OAuth
#: client that acts for itself.
_WITH_SUBJECT: Final = ("user:", "oauth:")

#: What a record is: a session; a state handle; the state of a user, or of a conversation that the host names; who calls
#: without a session; and an open `subscriptions/listen`.
Kind = Literal["session", "handle", "user", "conversation", "caller", "listener"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: What people call one record of a kind, and several.
WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "session": ("session", "sessions"),
    "handle": ("handle", "handles"),
    "user": ("user state", "user states"),
    "conversation": ("conversation", "conversations"),
    "caller": ("caller", "callers"),
    "listener": ("listener", "listeners"),
}

#: Characters of a handshake that is kept once it was parsed. Those of real clients are shorter, and often the same;
#: a thousand that somebody made long and different on purpose would fill the memory of every process.
KEPT_HANDSHAKE_CHARS: Final = 2_048

#: Characters that are logged of what a client sent.
SHOWN_CHARS: Final = 100


def has_subject(principal: str) -> bool:
    """Whether a principal names a person or an account, and not whoever uses the client."""
    return principal.startswith(_WITH_SUBJECT)


def shown(text: str) -> str:
    """Text of a client as it may be logged: in quotes, in printable ASCII, and cut off."""
    return ascii(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…")


@dataclass(frozen=True, slots=True, init=False)
class Handshake:
    """What `initialize` negotiated; for a record that is no session, what its first request said of its client.

    Nobody can change it, although sessions share it: what it gives is a copy.
    """

    #: The protocol version that both sides speak.
    protocol_version: str
    client_name: str
    client_version: str
    #: What the record is.
    kind: Kind
    #: What it is among those of its kind: the kind of a handle, the key of a conversation.
    label: str
    #: What its owner calls it: the text of a handle. Of a session, what it was opened with, if that has a name.
    name: str
    #: All of it, as one line of ASCII JSON; equal handshakes have equal text.
    text: str
    #: Whether it is short enough for caches.
    is_kept: bool

    def __init__(
        self,
        *,
        protocol_version: str,
        client_info: Mapping[str, Any],
        capabilities: Mapping[str, Any],
        kind: Kind = "session",
        label: str = "",
        name: str = "",
    ) -> None:
        what = [] if kind == "session" and not name else [kind, label, name]
        text = json.dumps([protocol_version, client_info, capabilities, *what], separators=(",", ":"))
        for field, value in (
            ("protocol_version", protocol_version),
            ("client_name", str(client_info.get("name", ""))),
            ("client_version", str(client_info.get("version", ""))),
            ("kind", kind),
            ("label", label),
            ("name", name),
            ("text", text),
            ("is_kept", len(text) <= KEPT_HANDSHAKE_CHARS and kind != "handle"),
        ):
            object.__setattr__(self, field, value)

    def __hash__(self) -> int:
        """Of all of it: if those of one client's name had one hash, somebody could make each look-up a long search."""
        return hash(self.text)

    @property
    def client_info(self) -> dict[str, Any]:
        """The client's `clientInfo`, as sent; the caller's own copy."""
        info: dict[str, Any] = json.loads(self.text)[1]
        return info

    def for_record(
        self, kind: Kind, *, label: str = "", name: str = "", capable: bool = False
    ) -> "Handshake":
        """What is kept of it with a record that is no session: the versions and the client's name, cut off.

        `capable` keeps the capabilities, too, unless all that the client says of itself is long.
        """
        return Handshake(
            protocol_version=self.protocol_version[:SHOWN_CHARS],
            client_info={
                "name": self.client_name[:SHOWN_CHARS],
                "version": self.client_version[:SHOWN_CHARS],
            },
            capabilities=self.capabilities if capable and self.is_kept else {},
            kind=kind,
            label=label,
            name=name,
        )

    def opened_with(self, credential: str) -> "Handshake":
        """The same for a session that is opened with a credential of that name, which is empty if it has none."""
        if not credential:
            return self
        return Handshake(
            protocol_version=self.protocol_version,
            client_info=self.client_info,
            capabilities=self.capabilities,
            name=credential,
        )

    @property
    def capabilities(self) -> dict[str, Any]:
        """The client's `capabilities`, as sent; the caller's own copy."""
        capabilities: dict[str, Any] = json.loads(self.text)[2]
        return capabilities


def parse_handshake(text: str) -> Handshake:
    """The handshake with this `text`. Clients of one release send equal handshakes, so few are ever parsed.

    Raises: ValueError for anything that is not the text of a handshake.
    """
    return kept_handshake(text) if len(text) <= KEPT_HANDSHAKE_CHARS else _parse(text)


def _parse(text: str) -> Handshake:
    match json.loads(text):
        case [str() as version, dict() as client_info, dict() as capabilities]:
            return Handshake(protocol_version=version, client_info=client_info, capabilities=capabilities)
        case [str() as version, dict() as info, dict() as capabilities, kind, str() as label, str() as name]:
            if kind in KINDS:
                return Handshake(
                    protocol_version=version,
                    client_info=info,
                    capabilities=capabilities,
                    kind=kind,
                    label=label,
                    name=name,
                )
    raise ValueError("not a handshake")


#: As `parse_handshake`, for texts of at most KEPT_HANDSHAKE_CHARS. It costs no Python call where the text is known.
kept_handshake = lru_cache(maxsize=1024)(_parse)


def record_fingerprint(kind: Kind, *parts: str) -> str:
    """The fingerprint of a record that is no session. No session id, and nothing of another kind, has the same."""
    text = "\0".join([kind, *(json.dumps(part) for part in parts)])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Session(NamedTuple):
    """One session, or another record with an owner and lifetimes, as the store holds it at one moment.

    Times are milliseconds since the epoch, by the store's clock. It is a tuple because every request makes one: a
    frozen dataclass with so many fields takes several times as long.
    """

    #: SHA-256, hexadecimal: of the session id, or of what else identifies the record.
    fingerprint: str
    #: What `initialize` negotiated.
    handshake: Handshake
    #: Who owns the session: "anonymous", or what authentication made of the request.
    principal: str
    #: When `initialize` was answered.
    created_ms: int
    #: When the session ends however active it is: created + MAX_AGE.
    deadline_ms: int
    #: The last request, notification or sign of life of an open stream.
    last_activity_ms: int
    #: When the session ends unless something happens before: min(last activity + IDLE_TTL, deadline).
    expires_ms: int
    #: Whether anything but `initialize` was ever received; before that FIRST_TTL applies.
    active: bool
    #: Whether `notifications/initialized` was received.
    initialized: bool
    #: Messages received, `initialize` not counted.
    requests: int
    #: Method of the last message, and the tool's name behind a colon: "tools/call:remember".
    last_call: str
    #: What `logging/setLevel` asked for, None before.
    log_level: str | None
    #: Names of the opt-in tools that the session enabled.
    tools: frozenset[str]
    #: Whether this comes from the store. Without it, it is what the session's id tells: see ON_STORE_DOWN.
    is_stored: bool = True
    #: Whether its record was gone and its id opened it again, and no tool has dealt with that since.
    revived: bool = False

    @property
    def kind(self) -> Kind:
        return self.handshake.kind

    @property
    def label(self) -> str:
        """What it is among those of its kind: the kind of a handle, the key of a conversation."""
        return self.handshake.label

    @property
    def name(self) -> str:
        """What its owner calls it; empty if it has no name, or if that is a secret."""
        return self.handshake.name

    @property
    def created(self) -> datetime:
        return _utc(self.created_ms)

    @property
    def deadline(self) -> datetime:
        return _utc(self.deadline_ms)

    @property
    def last_activity(self) -> datetime:
        return _utc(self.last_activity_ms)

    @property
    def expires(self) -> datetime:
        return _utc(self.expires_ms)


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
