"""Each operation on Redis, once: what to send and what the reply means. Pure; `redis` and `directory` execute it.

A `Call` is one script and its decoder. An operation that needs several round trips is a generator: it yields calls
that may share a round trip, and is sent their results. `StoreUnavailable` is thrown into it where it waits.
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from mcp_sessions.errors import SessionGone, StateError, StateTooLarge, StoreUnavailable
from mcp_sessions.store import scripts
from mcp_sessions.store.base import EndReason, Limits
from mcp_sessions.store.keys import Keys, client_label
from mcp_sessions.store.record import (
    LOG_LEVEL_FIELD,
    TOOL_FIELD_PREFIX,
    clean_call,
    escape,
    is_readable,
    parse_features,
    parse_session,
)
from mcp_sessions.store.scripts import Script
from mcp_sessions.store.session import ANONYMOUS, Handshake, Session

#: How often a session's place in the indexes is updated at most.
INDEX_INTERVAL_MS: Final = 5_000
#: How much longer than its session an index entry may matter: it can be that much behind.
INDEX_SLACK_MS: Final = 2 * INDEX_INTERVAL_MS
TOMBSTONE_MS: Final = 600_000
#: The field of the state hash that counts bytes: no text encodes to it.
STATE_TOTAL: Final = b"\xff"

T = TypeVar("T")
#: An operation of several round trips; a generator of calls that returns its result.
Operation = Generator[Sequence["Call[Any]"], list[Any], T]
#: The store's clock in milliseconds, where tests inject one.
Clock = Callable[[], int]


class Call(Generic[T]):
    """One script with its keys and arguments, and what its reply means."""

    __slots__ = ("arguments", "decode", "fails_alone", "script")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        decode: Callable[[Any], T],
        *,
        fails_alone: bool = False,
    ) -> None:
        self.script = script
        #: Whether an error reply is this call's result, and no failure of those that travel with it.
        self.fails_alone = fails_alone
        self.arguments = (len(keys), *keys, *arguments)
        self.decode = decode


class Commands:
    """The calls on one namespace in one Redis."""

    def __init__(self, keys: Keys, *, clock: Clock | None = None) -> None:
        self.keys = keys
        self._clock = clock

    def now(self) -> str | int:
        """The injected time, or nothing: then the scripts ask Redis."""
        return "" if self._clock is None else self._clock()

    def monotonic_ms(self) -> int:
        """A clock for intervals within this process."""
        return time.monotonic_ns() // 1_000_000 if self._clock is None else self._clock()

    # Sessions

    def create(
        self, fingerprint: str, principal: str, handshake: Handshake, limits: Limits
    ) -> Call[Session | str]:
        """Gives the session; "exists" or "ended" if the fingerprint is taken."""

        def decode(reply: Any) -> Session | str:
            if isinstance(reply, bytes):
                return reply.decode()
            session = parse_session(fingerprint, reply)
            assert session is not None, "a new record can be read"  # noqa: S101 - our own script wrote it
            return session

        arguments = (escape(principal), handshake.to_json(), limits.first_ms, limits.max_age_ms, self.now())
        keys = (self.keys.session(fingerprint), self.keys.ended(fingerprint))
        return Call(scripts.CREATE, keys, arguments, decode)

    def touch(
        self, fingerprint: str, principal: str, limits: Limits, call: str, initialized: bool
    ) -> tuple[Any, ...]:
        """The arguments of TOUCH; its reply is for `parse_session` and `is_due`. No Call: this is the hot path."""
        keys = self.keys
        return (
            3,
            keys.session(fingerprint),
            keys.features(fingerprint),
            keys.state(fingerprint),
            escape(principal),
            limits.idle_ms,
            clean_call(call),
            "i" if initialized else "",
            INDEX_INTERVAL_MS,
            "" if self._clock is None else self._clock(),
        )

    def keep(self, fingerprint: str, limits: Limits) -> Call[tuple[Session | None, bool]]:
        """Gives the session and whether its indexes are due."""
        keys = (self.keys.session(fingerprint), self.keys.features(fingerprint), self.keys.state(fingerprint))
        arguments = (limits.idle_ms, INDEX_INTERVAL_MS, self.now())
        return Call(
            scripts.KEEP, keys, arguments, lambda reply: (parse_session(fingerprint, reply), is_due(reply))
        )

    def get(self, fingerprint: str) -> Call[Session | None]:
        keys = (self.keys.session(fingerprint), self.keys.features(fingerprint))
        return Call(scripts.GET, keys, (self.now(),), lambda reply: parse_session(fingerprint, reply))

    def end(self, fingerprint: str, principal: str | None, reason: EndReason) -> Call[Session | None]:
        keys = (*self._parts(fingerprint), self.keys.ended(fingerprint), *self.keys.lasting(fingerprint))
        owner = "" if principal is None else "=" + escape(principal)
        arguments = (owner, reason, TOMBSTONE_MS, self.now())
        return Call(scripts.END, keys, arguments, lambda reply: parse_session(fingerprint, reply))

    def end_one_of_many(self, fingerprint: str, reason: EndReason) -> Call[Session | StoreUnavailable | None]:
        keys = (*self._parts(fingerprint), self.keys.ended(fingerprint), *self.keys.lasting(fingerprint))
        arguments = ("", reason, TOMBSTONE_MS, self.now())
        return Call(
            scripts.END, keys, arguments, lambda reply: parse_session(fingerprint, reply), fails_alone=True
        )

    def set_log_level(self, fingerprint: str, level: str) -> Call[bool]:
        return self._features(fingerprint, {LOG_LEVEL_FIELD: level}, (), lambda fields: fields is not None)

    def change_tools(
        self, fingerprint: str, enable: Iterable[str], disable: Iterable[str]
    ) -> Call[frozenset[str] | None]:
        """A tool that is named on both sides is disabled."""
        return self._features(
            fingerprint,
            {TOOL_FIELD_PREFIX + name: "1" for name in enable},
            [TOOL_FIELD_PREFIX + name for name in disable],
            lambda fields: None if fields is None else parse_features(fields)[1],
        )

    def _features(
        self,
        fingerprint: str,
        values: Mapping[str, str],
        names: Iterable[str],
        decode: Callable[[list[bytes] | None], T],
    ) -> Call[T]:
        arguments = [self.now(), len(values), *(text for pair in values.items() for text in pair), *names]
        keys = (self.keys.session(fingerprint), self.keys.features(fingerprint))
        return Call(scripts.FEATURES, keys, arguments, lambda reply: decode(_only(fingerprint, reply)))

    def _parts(self, fingerprint: str) -> tuple[str, str, str]:
        return (self.keys.session(fingerprint), self.keys.features(fingerprint), self.keys.state(fingerprint))

    # State

    def state_get(self, fingerprint: str, names: Sequence[str]) -> Call[list[str | None]]:
        def decode(values: list[bytes | None]) -> list[str | None]:
            return [None if value is None else value.decode() for value in values] if names else []

        return self._state(scripts.STATE_GET, fingerprint, [_utf8(name) for name in names], decode)

    def state_items(self, fingerprint: str) -> Call[dict[str, str]]:
        """Every name with its JSON text, sorted by name."""

        def decode(flat: list[bytes]) -> dict[str, str]:
            items = zip(flat[::2], flat[1::2], strict=True)
            return {name.decode(): value.decode() for name, value in sorted(items) if name != STATE_TOTAL}

        return self._state(scripts.STATE_GET, fingerprint, [], decode)

    def state_set(self, fingerprint: str, values: Mapping[str, str], max_bytes: int) -> Call[None]:
        arguments = [max_bytes, *(_utf8(text) for pair in values.items() for text in pair)]
        return self._state(scripts.STATE_SET, fingerprint, arguments, lambda _: None)

    def state_delete(self, fingerprint: str, names: Sequence[str]) -> Call[int]:
        return self._state(scripts.STATE_DELETE, fingerprint, [_utf8(name) for name in names], int)

    def state_incr(self, fingerprint: str, name: str, amount: int | float, max_bytes: int) -> Call[str]:
        def decode(total: bytes) -> str:
            return json.dumps(json.loads(total))

        arguments = [max_bytes, _utf8(name), json.dumps(amount)]
        return self._state(scripts.STATE_INCR, fingerprint, arguments, decode)

    def state_append(self, fingerprint: str, name: str, item: str, max_bytes: int) -> Call[int]:
        arguments = [max_bytes, _utf8(name), _utf8(item)]
        return self._state(scripts.STATE_APPEND, fingerprint, arguments, lambda text: len(json.loads(text)))

    def _state(
        self, script: Script, fingerprint: str, arguments: Sequence[Any], decode: Callable[[Any], T]
    ) -> Call[T]:
        def checked(reply: Any) -> T:
            if reply == -1:
                raise StateTooLarge("the session's state would exceed STATE_MAX_BYTES")
            if reply == -2:
                raise StateError("the value is of another type than the operation needs, or out of range")
            if not is_readable(fingerprint, reply):
                raise SessionGone("the session is gone")
            return decode(reply[0] if reply else None)

        keys = (self.keys.session(fingerprint), self.keys.state(fingerprint))
        return Call(script, keys, (self.now(), *arguments), checked)

    # Indexes

    def admit(self, fingerprint: str, principal: str, handshake: Handshake, limits: Limits) -> Call[int]:
        """Reserve a new session's place in the indexes: 0, or 1 or 2 if it does not fit (endpoint, principal)."""
        per_principal = None if principal == ANONYMOUS else limits.max_sessions_per_principal
        caps = [cap if cap is not None else "" for cap in (limits.max_sessions, per_principal)]
        return self._index(fingerprint, principal, handshake, limits, self.now(), limits.first_ms, caps)

    def index(self, session: Session, limits: Limits) -> Call[int]:
        """Put a session where its last activity belongs."""
        now = session.last_activity_ms
        first = "" if session.active else session.expires_ms - now
        return self._index(
            session.fingerprint, session.principal, session.handshake, limits, now, first, ("", "")
        )

    def _index(
        self,
        fingerprint: str,
        principal: str,
        handshake: Handshake,
        limits: Limits,
        now: str | int,
        first: str | int,
        caps: Sequence[str | int],
    ) -> Call[int]:
        activity, *others = self.keys.indexes(handshake, principal)
        name = client_label(handshake.client_name).encode("utf-8", "backslashreplace")
        member = bytes.fromhex(fingerprint)
        arguments = (now, member, matters_ms(limits), first, name, limits.max_age_ms, *caps)
        return Call(scripts.INDEX, (activity, self.keys.new, self.keys.clients, *others), arguments, int)

    def unindex(self, indexes: Sequence[str], fingerprints: Sequence[str]) -> Call[int]:
        """Drop fingerprints, a thousand at most, from indexes."""
        return Call(scripts.UNINDEX, indexes, [bytes.fromhex(each) for each in fingerprints], int)

    def page(
        self,
        index: str,
        limits: Limits,
        *,
        offset: int,
        limit: int,
        ascending: bool,
        since_ms: int | None = None,
        before_ms: int | None = None,
    ) -> Call[tuple[int, list[str]]]:
        """Gives how many match, and the fingerprints of the page."""
        bounds = ["" if bound is None else bound for bound in (since_ms, before_ms)]
        order = "asc" if ascending else "desc"
        arguments = (self.now(), matters_ms(limits), *bounds, offset, limit, order)
        keys = (index, self.keys.activity, self.keys.new)
        return Call(
            scripts.PAGE, keys, arguments, lambda reply: (reply[0], [member.hex() for member in reply[1]])
        )

    def clients(self) -> Call[list[str]]:
        """Client names, most recent first."""
        return Call(
            scripts.CLIENTS, (self.keys.clients,), (), lambda reply: [name.decode() for name in reply]
        )


def is_due(reply: Any) -> bool:
    """Whether a session's indexes are to be updated, as the script that slid it says."""
    return type(reply) is list and reply[1] == 1


def matters_ms(limits: Limits) -> int:
    """How long after its last update an index entry can belong to a session that is alive."""
    return max(limits.idle_ms, limits.first_ms) + INDEX_SLACK_MS


def _only(fingerprint: str, reply: Any) -> list[bytes] | None:
    """The one value of a reply; None for no session, and for one that cannot be read."""
    return reply[0] if is_readable(fingerprint, reply) else None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise StateError(f"not text that UTF-8 can hold: {error.reason}") from None
