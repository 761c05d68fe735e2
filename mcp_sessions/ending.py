"""Ends sessions, in one way: for their clients, for operators, from a shell, and when their time is over.

Records of the other kinds end in the same way. Each end is a line in the log, with who and why, and for a session or a
conversation the signal `session_ended`, once; every node is told, and closes what is open of the record. Of several
ends of one record at the same moment exactly one gets it. When time ends a record, nothing of it is open: no node is
told, and there is a line only for those that are signalled.

What an operator or a sweep ends is remembered in the store until that is done. If the process is killed in the middle,
or cannot reach the store any more, a node finishes it: it ends what is left and announces all of it. Only then may a
line and a signal come twice.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from mcp_sessions import counting
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import MinCreatedRaised, SessionsEnded
from mcp_sessions.conf import Limits, endpoint
from mcp_sessions.conf.rules import REVIVE, SERVE
from mcp_sessions.counting import Counts
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.records import WORDS, Kind, Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import counts, endings, queries, sessions, streams, sweeps, validity
from mcp_sessions.store.calls.endings import AtWork, Ending
from mcp_sessions.store.calls.sessions import EndReason, Ends
from mcp_sessions.store.calls.validity import Moment
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.streams.retry import retry_while_unavailable

logger = logging.getLogger(__name__)

#: Sessions that are ended together: eight round trips at most for so many.
BATCH: Final = 200
#: Runs a coroutine in the background.
Spawn = Callable[[Coroutine[Any, Any, None]], object]
#: Those whose end is signalled: what `current_session()` gives to tools.
SIGNALLED: Final[tuple[Kind, ...]] = ("session", "conversation")


def end_session(
    alias: str,
    fingerprint: str,
    *,
    reason: EndReason = "expired_by_operator",
    by: str = "code",
    why: str = "",
) -> Session | None:
    """End anybody's session, close its open streams on every process, and send `session_ended`.

    It ends a record of any other kind likewise; `session_ended` is sent for sessions and conversations. `by` is who
    ends it and `why` what they say, for the log. When this returns, every process answers 404; open streams close
    within a second. None if there was no such session any more; of several concurrent calls exactly one gets the
    session, and sends the signal. A receiver that raises is logged and stops nothing.

    Raises: StoreUnavailable; then nothing is known to have ended, and what the store had accepted of it is finished by
    a node within twenty seconds.
    """
    ends = end_batch(alias, [fingerprint], reason=reason, by=by, why=why)
    if ends.failure is not None:
        raise ends.failure
    return ends.ended[0] if ends.ended else None


def end_sessions(
    alias: str,
    fingerprints: Sequence[str],
    *,
    reason: EndReason = "expired_by_operator",
    by: str = "code",
    why: str = "",
) -> frozenset[str]:
    """End many sessions of an endpoint, as `end_session` ends one, in eight round trips at most for each 200.

    Returns the fingerprints of those that this call ended; the others were gone already.

    Raises: NotAllEnded, a StoreUnavailable whose `ended` has the fingerprints of those that ended all the same. The
    rest of the 200 in hand is finished as by `end_session`.
    """
    ended: set[str] = set()
    each_once = list(dict.fromkeys(fingerprints))
    for start in range(0, len(each_once), BATCH):
        try:
            ends = end_batch(alias, each_once[start : start + BATCH], reason=reason, by=by, why=why)
        except StoreUnavailable as error:
            raise NotAllEnded(ended) from error
        ended.update(session.fingerprint for session in ends.ended)
        if ends.failure is not None:
            raise NotAllEnded(ended) from ends.failure
    return frozenset(ended)


def end_batch(
    alias: str,
    fingerprints: Sequence[str],
    *,
    reason: EndReason = "expired_by_operator",
    by: str,
    why: str = "",
    token: str = "",
    before_ms: int | None = None,
    going_on: Callable[[], object] = lambda: None,
) -> Ends:
    """End some sessions together, BATCH of them at most; what became of each.

    A call that is repeated with the same `token` within a minute gets those again that it ended before. With
    `before_ms`, only what was created before that moment of the store's clock ends. `going_on` is called every few
    seconds while receivers take their time.

    Raises: StoreUnavailable, as `end_session`.
    """
    ending = Ending(
        token=token or secrets.token_hex(8),
        fingerprints=fingerprints,
        reason=reason,
        by=by,
        why=why,
        before_ms=before_ms,
    )
    store = sync_store_for(alias)
    store.run(endings.begin(ending))
    ends = store.run(_ends(alias, ending))
    if ends.ended:
        _log(alias, ends.ended, reason, by, why)
        outside.notify_all(alias, _notification(ends.ended))
        at_work = AtWork(ending)
        for facts in _signals(ends.ended, alias, reason):
            session_ended.send_robust(sender=Session, **facts)
            for said in at_work.say():
                with suppress(StoreUnavailable):
                    store.run(said)
                going_on()
    try:
        if ends.with_streams:
            store.run(streams.forget(ends.with_streams))
        store.run(_done(ending, ends))
    except StoreUnavailable as error:
        logger.warning("Ends of sessions may be announced again: %s", error)
    return ends


def _done(ending: Ending, ends: Ends) -> Operation[counts.Added]:
    """Count the ends at once, because a command has nobody who does so later, and forget the intention."""
    number = Counts({f"sessions_ended:{ending.reason}": len(_with_streams(ends.ended))})
    return counts.add(
        number,
        by=ending.token,
        batch=ending.token,
        now_ms=round(time.time() * 1000),
        beside=[endings.finish(ending.token)] if ends.failure is None else [],
    )


def _ends(alias: str, ending: Ending) -> Operation[Ends]:
    """End what an operator, or code, began to end."""
    return sessions.end_many(
        ending.fingerprints,
        reason=cast("EndReason", ending.reason),
        token=ending.token,
        shards=_limits(alias).shards,
        lasting_ms=_lasting_ms(alias),
        before_ms=ending.before_ms,
    )


def end_all_before_now(alias: str, *, by: str) -> Moment:
    """From now on no session of an endpoint counts that was opened before, also those that the store has lost.

    When this returns, the store knows that; every process knows within a second, or with its next heartbeat. Those that
    the store has are yet to be ended. Raises: StoreUnavailable; then the moment may be known to the store or not.
    """
    store = sync_store_for(alias)
    newest_ms = store.run(queries.newest("session", limits=_limits(alias)))
    moment = store.run(validity.end_all_before_now(newest_ms=newest_ms))
    outside.broadcast(alias, MinCreatedRaised(min_created_ms=moment.min_created_ms))
    logger.info("Sessions of endpoint %r that were opened before now are over, by %r.", alias, by)
    return moment


async def finish_endings(node: Node, alias: str) -> None:
    """With each heartbeat: finish what a process began to end that was killed, or lost the store.

    Raises: StoreUnavailable.
    """
    for ending in await node.store.run(endings.overdue()):
        if ending.reason == "over":
            await end_over(node, alias, ending.fingerprints, token=ending.token)
            continue
        ends = await node.store.run(_ends(alias, ending))
        if ends.ended:
            await _announce(node, alias, ends.ended, reason=ending.reason, by=ending.by, begun=ending)
        if ends.failure is None:
            await node.store.run(endings.finish(ending.token))


async def end_over(node: Node, alias: str, fingerprints: Sequence[str], *, token: str) -> sweeps.Swept:
    """End what is over of these records, and signal it. Raises: StoreUnavailable.

    No node is told of it: nothing is open of them.
    """
    swept = await node.store.run(sweeps.sweep(fingerprints, token=token, limits=_limits(alias)))
    signalled = [each for each in swept.ended if each.kind in SIGNALLED]
    at_work = AtWork(Ending(token=token, fingerprints=fingerprints, reason="over", by=""))
    for session in signalled:
        reason: EndReason = "max_age" if session.expires_ms == session.deadline_ms else "idle"
        _log(alias, [session], reason, "time")
        counting.count(alias, "sessions_ended", len(_with_streams([session])), reason=reason)
        for facts in _signals([session], alias, reason):
            await session_ended.asend_robust(sender=Session, **facts)
        with suppress(StoreUnavailable):
            await node.store.run_all(at_work.say())
    await forget(node, _with_streams(swept.ended))
    if swept.ended:
        await node.store.run(sweeps.forget([each.fingerprint for each in swept.ended], token=token))
    if swept.complete:
        await node.store.run(endings.finish(token))
    return swept


async def aend_session(
    node: Node,
    alias: str,
    fingerprint: str,
    *,
    reason: EndReason,
    by: str,
    principal: str | None = None,
    spawn: Spawn | None = None,
) -> Session | None:
    """As `end_session`, in an event loop that serves the endpoint as `node`. `principal=None` ends anybody's.

    With `spawn`, an end that could not reach the store, or lost its reply, goes on in the background for a while: what
    the store has ended is announced all the same.

    Raises: StoreUnavailable.
    """
    token = secrets.token_hex(8)

    async def end() -> Session | None:
        lasting_ms = _lasting_ms(alias)
        work = sessions.end(
            fingerprint, principal=principal, reason=reason, token=token, lasting_ms=lasting_ms
        )
        session = await node.store.run(work)
        if session is not None:
            await _announce(node, alias, [session], reason=reason, by=by)
        return session

    try:
        return await end()
    except StoreUnavailable:
        if spawn is not None:
            spawn(_go_on(end, fingerprint))
        raise


async def _go_on(end: Callable[[], Awaitable[Session | None]], fingerprint: str) -> None:
    try:
        await retry_while_unavailable(end)
    except StoreUnavailable as error:
        logger.warning("Whether session %.12s ended is not known: %s", fingerprint, error)


async def _announce(
    node: Node,
    alias: str,
    ended: Sequence[Session],
    *,
    reason: EndReason,
    by: str,
    begun: Ending | None = None,
) -> None:
    """Log and signal ends, and tell every node. `begun` is what another process began."""
    _log(alias, ended, reason, by, begun.why if begun else "")
    at_work = AtWork(begun) if begun else None
    counting.count(alias, "sessions_ended", len(_with_streams(ended)), reason=reason)
    notification = _notification(ended)
    node.notify(node.id, notification)
    # Before the others are told, which takes round trips: a request that is cancelled there has sent the signals.
    for facts in _signals(ended, alias, reason):
        await session_ended.asend_robust(sender=Session, **facts)
        with suppress(StoreUnavailable):
            await node.store.run_all(at_work.say() if at_work else [])
    await node.notify_others(notification)
    await forget(node, _with_streams(ended))


def _with_streams(records: Sequence[Session]) -> list[str]:
    return [each.fingerprint for each in records if each.kind == "session"]


async def forget(node: Node, fingerprints: Sequence[str]) -> None:
    """Drop what is left of sessions that are over."""
    try:
        await node.store.run(streams.forget(fingerprints))
    except StoreUnavailable as error:
        logger.debug("The streams of %d sessions are left to their TTL: %s", len(fingerprints), error)


def _limits(alias: str) -> Limits:
    return endpoint(alias).limits


def _lasting_ms(alias: str) -> int:
    """For how long an id can open a session again, and tombstones must last; 0 if it cannot."""
    conf = endpoint(alias)
    # An id that was given while the store was away opens its session where it has no record yet.
    opens = conf.on_miss == REVIVE or conf.on_store_down == SERVE
    return conf.limits.max_age_ms if opens else 0


def _notification(ended: Sequence[Session]) -> SessionsEnded:
    return SessionsEnded(fingerprints=tuple(session.fingerprint for session in ended))


def _signals(ended: Sequence[Session], alias: str, reason: EndReason) -> list[dict[str, Any]]:
    """What receivers of `session_ended` get, for each end that is signalled."""
    return [
        {
            "fingerprint": each.fingerprint,
            "alias": alias,
            "reason": reason,
            "kind": each.kind,
            "session": each,
        }
        for each in ended
        if each.kind in SIGNALLED
    ]


def _log(alias: str, ended: Sequence[Session], reason: EndReason, by: str, why: str = "") -> None:
    said = f": {why!r}" if why else ""
    facts = {"event": "session.ended", "endpoint": alias, "reason": reason, "by": by}
    for each in ended:
        what = WORDS[each.kind][0].capitalize()
        extra = {**facts, "fingerprint": each.fingerprint, "kind": each.kind}
        logger.info("%s %.12s ended: %s, by %r%s.", what, each.fingerprint, reason, by, said, extra=extra)
