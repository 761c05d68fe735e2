"""Sessions. Principals are compared inside the store: a stranger learns nothing and changes nothing."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Handshake, Session
from mcp_sessions.store.call import Call, Operation, Script, is_readable
from mcp_sessions.store.calls import indexes, places, tombstones
from mcp_sessions.store.calls.reading import LOG_LEVEL, SLIDING, TOOL, escape, parse_features, parse_session
from mcp_sessions.store.calls.reading import count_requests as count_requests
from mcp_sessions.store.calls.reading import get as get
from mcp_sessions.store.calls.reading import keep as keep
from mcp_sessions.store.calls.reading import touch as touch
from mcp_sessions.store.calls.recent import RECENT
from mcp_sessions.store.calls.tombstones import SKEW_MS, TOMBSTONE_MS
from mcp_sessions.transport.event_ids import STANDALONE

#: Why a session was ended; the tombstone keeps it. One that ends by time has none.
EndReason = Literal["deleted", "expired_by_operator", "max_age", "idle"]

#: For how long a repeated end finds the session that it ended.
REPEATED_MS: Final = 60_000

#: What else an end deletes. The logs of exchanges have names that are not known here: see `streams.forget`.
LASTING: Final = ("stream:" + STANDALONE, "stream-info:" + STANDALONE, "published", "resources", RECENT)

_ENDED_PARTS: Final = (*SLIDING, "ended", "ended-record", "finished", *LASTING)

CREATE: Final = Script("create", "_record")
#: Sessions that one script ends: less than half a millisecond in which Redis serves nobody else.
MOST_ENDED: Final = 6

END: Final = Script("end", "_record", repeatable=True, together=MOST_ENDED)
ENDED: Final = Script("ended", repeatable=True)
FEATURES: Final = Script("features", "_record", repeatable=True)


def create(
    fingerprint: str,
    *,
    principal: str,
    handshake: Handshake,
    limits: Limits,
    again: bool = False,
    another: places.Another | None = None,
    created_ms: int | None = None,
    first_ms: int = 0,
) -> Operation[Session]:
    """Store a new session, not yet active, with FIRST_TTL. It exists for every node when this returns.

    `again=True` is for records of which there may be another one with the same fingerprint after an end.

    `another` makes other fingerprints for it, each with its handshake: where there are several shards, the session is
    one of those if there is no room in its shard. Without it, the part of the cap that the shard has is the cap.

    `created_ms` is when it was opened as its id says, milliseconds since the epoch. If the store's clock is more than
    half a minute apart from that, the record says the same: its end is remembered by when its id is over. `first_ms` is
    when the first session was opened that counts: if that is ahead of the store's clock, this one was opened then.

    Raises: TooManySessions at a cap, before anything is stored; once a second a full index is first cleared of
    sessions that are gone. ValueError if the fingerprint exists or existed (a tombstone).
    """
    fingerprint, handshake = yield from places.take(
        fingerprint, principal=principal, handshake=handshake, limits=limits, another=another
    )
    arguments = (
        escape(principal),
        handshake.text,
        limits.first_ms,
        limits.max_age_ms,
        "again" if again else "",
        "" if created_ms is None else created_ms,
        first_ms,
    )
    try:
        [created] = yield [Call(CREATE, fingerprint, ("session", "ended"), arguments, _created, secrets=(1,))]
    except StoreUnavailable:
        yield from places.give_back(fingerprint, principal, handshake)
        raise
    if isinstance(created, Session):
        return created
    if created == "ended":
        yield from places.give_back(fingerprint, principal, handshake)
    raise ValueError(f"a session with the fingerprint {fingerprint[:12]} {created}")


def end(
    fingerprint: str, *, principal: str | None, reason: EndReason, token: str = "", lasting_ms: int = 0
) -> Operation[Session | None]:
    """Delete the session with all its parts and leave a tombstone; it can never come back.

    `principal=None` ends anybody's. Returns the session that this call ended; None if there was none, or if it is
    somebody else's. Of several concurrent calls exactly one gets the session. With the reason "max_age", only a
    session that does not expire before its deadline is ended, and still for ten seconds after it, when nothing else
    finds the session any more. An end that is repeated within a minute with the same `token`, because its reply was
    lost, gets the session again; by default each end has a token of its own.

    A tombstone lives for ten minutes. With `lasting_ms`, the age up to which an id can be good, it lives until the
    session's deadline, because its id could open it again; and where anybody's session is ended and there is none, its
    record may be gone, and a tombstone is left for so long.
    """
    [outcome] = yield [_end(fingerprint, principal, reason, token or secrets.token_hex(8), lasting_ms)]
    if outcome is None:
        return None
    ended: Session = outcome.session
    # With its tombstone, no session comes again, whatever the clocks of a Cluster's nodes say.
    used_ms = indexes.EVER if ended.kind == "session" else ended.last_activity_ms
    yield from places.give_back(fingerprint, ended.principal, ended.handshake, now_ms=used_ms)
    if lasting_ms:
        yield from _compact([ended])
    return ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What became of sessions that were to end together."""

    #: Those that this call ended.
    ended: Sequence[Session]
    #: Fingerprints: those of them of which streams may be left; those that this call found gone, somebody else's or too
    #: young; and those of which nothing is known.
    with_streams: Sequence[str]
    gone: Sequence[str]
    unknown: Sequence[str]
    #: Why; None if all are known.
    failure: StoreUnavailable | None


def end_many(
    fingerprints: Sequence[str],
    *,
    reason: EndReason,
    token: str,
    shards: int,
    lasting_ms: int = 0,
    before_ms: int | None = None,
) -> Operation[Ends]:
    """End anybody's sessions in two round trips, or four with `lasting_ms`.

    With `before_ms`, only those that were created before that moment, by the store's clock.
    """
    outcomes = yield [
        _end(each, None, reason, token, lasting_ms, before_ms=before_ms, fails_alone=True)
        for each in fingerprints
    ]
    known = list(zip(fingerprints, outcomes, strict=True))
    ended = [outcome.session for outcome in outcomes if isinstance(outcome, _Ended)]
    try:
        if ended:
            yield indexes.unindex_all(ended, shards=shards, for_good=True)
    except StoreUnavailable as error:
        log.debug("%d sessions stay in the indexes for a while: %s", len(ended), error)
    if lasting_ms:
        yield from _compact(ended)
    return Ends(
        ended=ended,
        with_streams=[each for each, outcome in known if isinstance(outcome, _Ended) and outcome.has_streams],
        gone=[each for each, outcome in known if outcome is None],
        unknown=[each for each, outcome in known if isinstance(outcome, StoreUnavailable)],
        failure=next((outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)), None),
    )


def _compact(ended: Sequence[Session]) -> Operation[None]:
    """Make lasting tombstones small."""
    deadlines = {each.fingerprint: each.deadline_ms for each in ended if each.kind == "session"}
    others = [each.fingerprint for each in ended if each.kind != "session"]
    return tombstones.compact(deadlines, others=others)


class _Ended(NamedTuple):
    session: Session
    has_streams: bool


def _end(
    fingerprint: str,
    principal: str | None,
    reason: EndReason,
    token: str,
    lasting_ms: int,
    *,
    before_ms: int | None = None,
    fails_alone: bool = False,
) -> Call[_Ended | None]:
    whose = "" if principal is None else "=" + escape(principal)
    lasting = (SKEW_MS, lasting_ms + SKEW_MS) if lasting_ms else ("", "")
    before = "" if before_ms is None else before_ms
    arguments = (len(_ENDED_PARTS), whose, reason, TOMBSTONE_MS, token, REPEATED_MS, *lasting, before)
    return Call(END, fingerprint, _ENDED_PARTS, arguments, _ended, fails_alone=fails_alone, skips_sealed=True)


def _ended(fingerprint: str, replies: Sequence[Any]) -> _Ended | None:
    [reply] = replies
    session = parse_session(fingerprint, reply)
    return None if session is None else _Ended(session, reply[3] == 1)


def set_log_level(fingerprint: str, level: str) -> Call[bool]:
    """Remember what `logging/setLevel` asked for. False if the session is gone (nothing is created)."""
    return Call(FEATURES, fingerprint, ("session", "features"), (1, LOG_LEVEL, level), is_readable)


def change_tools(
    fingerprint: str, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
) -> Call[frozenset[str] | None]:
    """Enable and disable opt-in tools by name; the names enabled afterwards, None if the session is gone.

    A tool that is named on both sides is disabled.
    """
    enabled = [text for name in enable for text in (TOOL + name, "1")]
    arguments = [len(enabled) // 2, *enabled, *(TOOL + name for name in disable)]
    return Call(FEATURES, fingerprint, ("session", "features"), arguments, _tools)


def end_reason(fingerprint: str) -> Call[str | None]:
    """Why a session was ended in the last minutes. None for one that lives, expired, or was lost by the server."""
    return Call(
        ENDED, fingerprint, ("ended",), (), lambda _, reply: reply.decode().split(" ")[0] if reply else None
    )


def end_token(fingerprint: str) -> Call[str | None]:
    """The token of the call that ended a session in the last minutes. None as for `end_reason`."""
    return Call(
        ENDED,
        fingerprint,
        ("ended",),
        (),
        lambda _, reply: reply.decode().partition(" ")[2] if reply else None,
    )


def _created(fingerprint: str, reply: Any) -> Session | str:
    """The session; "exists" or "ended" if the fingerprint is taken."""
    session = None if isinstance(reply, bytes) else parse_session(fingerprint, reply)
    return reply.decode() if session is None else session


def _tools(fingerprint: str, reply: Any) -> frozenset[str] | None:
    return parse_features(reply[0])[1] if is_readable(fingerprint, reply) else None
