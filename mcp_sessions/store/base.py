"""The contract of a session store. One test suite holds every implementation to it.

Two faces on the same data:

- `SessionStore` is async and serves requests. Each method is atomic, costs one round trip, and may be called
  concurrently from many processes.
- `SessionDirectory` is sync and serves the admin, management commands and checks, from any thread.

"Now" is the store's clock, never a process's. A record that cannot be read, or that another version wrote, is
logged once per read and treated as gone. Every method raises `StoreUnavailable` when the store cannot be asked;
that never means that a session is gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.session import Handshake, Session

#: Why a session was ended; the tombstone keeps it.
EndReason = Literal["deleted", "expired_by_operator", "max_age"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The lifetimes and caps of one endpoint. Durations are milliseconds; None is "no cap"."""

    #: A session ends when nothing happens for so long.
    idle_ms: int
    #: A session ends at this age, however active.
    max_age_ms: int
    #: A session that never became active ends after so long.
    first_ms: int
    #: Open sessions of the endpoint.
    max_sessions: int | None
    #: Open sessions of one principal; anonymous clients share none.
    max_sessions_per_principal: int | None
    #: Bytes of all state names and values of one session.
    state_max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of sessions, newest activity first."""

    #: The sessions of the page. Those that ended since they were indexed are left out.
    sessions: Sequence[Session]
    #: How many sessions match, as the index knows it.
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which sessions to list. At most one of `client`, `protocol` and `principal`; activity bounds go with each."""

    client: str | None = None
    protocol: str | None = None
    principal: str | None = None
    #: Last activity at or after / strictly before, milliseconds since the epoch.
    active_since_ms: int | None = None
    active_before_ms: int | None = None
    #: Oldest activity first.
    ascending: bool = False


class SessionStore(Protocol):
    """The async face. Principals are compared inside the store: a stranger learns nothing and changes nothing."""

    #: Whether the sessions are shared with other processes.
    shared: bool

    async def create(
        self, fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits
    ) -> Session:
        """Store a new session, not yet active, with FIRST_TTL. It exists for every process when this returns.

        Raises: TooManySessions at a cap, before anything is stored; once a second a full index is first cleared of
        sessions that are gone. ValueError if the fingerprint exists or existed (a tombstone).
        """
        ...

    async def touch(
        self, fingerprint: str, *, principal: str, limits: Limits, call: str = "", initialized: bool = False
    ) -> Session | None:
        """Load, check the owner and the deadline, slide the idle TTL, count, remember `call`: one atomic act.

        `initialized=True` also records `notifications/initialized`. None for an unknown, expired, ended, unreadable
        or foreign session, which is left exactly as it was. Calls made in the same tick of the event loop may share
        one round trip.
        """
        ...

    async def keep(self, fingerprints: Sequence[str], *, limits: Limits) -> Mapping[str, Session]:
        """Slide the idle TTL of sessions that have work in flight or open streams; not counted as requests.

        Returns those that still exist, by fingerprint. Never slides past the deadline.
        """
        ...

    async def get(self, fingerprint: str) -> Session | None:
        """The session as it is, without touching it."""
        ...

    async def end(self, fingerprint: str, *, principal: str | None, reason: EndReason) -> Session | None:
        """Delete the session with all its parts and leave a tombstone; it can never come back.

        `principal=None` ends anybody's. Returns the session that this call ended; None if there was none, or it is
        somebody else's. Of several concurrent calls exactly one gets the session. With the reason "max_age" it also
        gets a session that reached its deadline within the last ten seconds, although nothing else finds it any more.
        """
        ...

    async def set_log_level(self, fingerprint: str, level: str) -> bool:
        """Remember what `logging/setLevel` asked for. False if the session is gone (nothing is created)."""
        ...

    async def change_tools(
        self, fingerprint: str, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
    ) -> frozenset[str] | None:
        """Enable and disable opt-in tools by name; the names enabled afterwards, None if the session is gone."""
        ...

    # State: a mapping of names to JSON values, one per session, which lives and dies with it. Values cross this
    # face as JSON text. Every method raises SessionGone if the session is gone, creates nothing then, and is atomic.

    async def state_get(self, fingerprint: str, names: Sequence[str]) -> list[str | None]:
        """The JSON texts, None where a name is not set."""
        ...

    async def state_set(self, fingerprint: str, values: Mapping[str, str], *, max_bytes: int) -> None:
        """Set all values or none. Raises StateTooLarge: the total of names and values in bytes of UTF-8."""
        ...

    async def state_delete(self, fingerprint: str, names: Sequence[str]) -> int:
        """Delete names; how many were set."""
        ...

    async def state_incr(self, fingerprint: str, name: str, amount: int | float, *, max_bytes: int) -> str:
        """Add to a number (0 if not set), return the JSON text of the sum. Raises StateError if it is no number."""
        ...

    async def state_append(self, fingerprint: str, name: str, item: str, *, max_bytes: int) -> int:
        """Append a JSON text to a list (empty if not set), return its length. Raises StateError if it is no list."""
        ...

    async def state_names(self, fingerprint: str) -> list[str]:
        """The names that are set, sorted."""
        ...

    async def aclose(self) -> None:
        """Close connections that belong to the running event loop."""
        ...


class SessionDirectory(Protocol):
    """The sync face, for the admin and the operator. Safe to call from any thread."""

    #: Whether the sessions are shared with other processes.
    shared: bool

    def page(self, query: Query, *, offset: int, limit: int) -> Page:
        """One page by last activity: one range read and one pipeline, whatever the number of sessions.

        Members of the index whose session is gone are dropped on the way. Raises: UnsupportedLookup.
        """
        ...

    def get(self, fingerprint: str) -> Session | None:
        """The session as it is, without touching it."""
        ...

    def find(self, prefix: str, *, limit: int) -> Sequence[Session]:
        """Sessions whose fingerprint starts with `prefix`, hexadecimal, at least 8 digits.

        A whole fingerprint is looked up. A shorter one is searched among the 10,000 last active sessions.
        """
        ...

    def count(self) -> int:
        """How many sessions are open, as the index knows it."""
        ...

    def clients(self) -> Sequence[str]:
        """Client names seen lately, most recent first, at most 100."""
        ...

    def state(self, fingerprint: str) -> Mapping[str, Any]:
        """The decoded state of a session, for the detail page; empty if the session is gone."""
        ...

    def end(self, fingerprint: str, *, reason: EndReason = "expired_by_operator") -> Session | None:
        """As `SessionStore.end` with `principal=None`."""
        ...

    def end_many(
        self, fingerprints: Sequence[str], *, reason: EndReason
    ) -> Sequence[Session | StoreUnavailable | None]:
        """As `end`, of a thousand sessions at most, in two round trips; an outcome for each, in order.

        An error says that nothing is known to have happened to that session. Raises: StoreUnavailable if nothing is
        known of any.
        """
        ...

    def ping(self) -> None:
        """Raise StoreUnavailable if the store does not answer."""
        ...
