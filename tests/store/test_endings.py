"""Ends that are repeated, and those that a process leaves unfinished: what every driver promises."""

from functools import partial

from mcp_sessions.store.calls import endings, sessions
from mcp_sessions.store.calls.endings import OVERDUE_MS, Ending
from mcp_sessions.store.calls.sessions import REPEATED_MS
from tests.store.harness import Harness, gather


async def test_an_end_that_is_repeated_gets_the_session_again(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")
    end = {"principal": "issuer|ann", "reason": "deleted"}

    first = await harness.store.run(sessions.end(fingerprint, **end, token="one"))  # type: ignore[arg-type]
    again = await harness.other.run(sessions.end(fingerprint, **end, token="one"))  # type: ignore[arg-type]
    of_another = await harness.store.run(sessions.end(fingerprint, **end, token="two"))  # type: ignore[arg-type]

    assert first is not None
    assert again is not None
    assert (again.fingerprint, again.principal, again.requests) == (fingerprint, "issuer|ann", first.requests)
    assert of_another is None
    assert await harness.other.run(sessions.end_token(fingerprint)) == "one"
    assert await harness.other.run(sessions.end_reason(fingerprint)) == "deleted"
    assert await harness.store.run(sessions.end_token("ab" * 32)) is None


async def test_after_a_minute_an_end_is_not_repeated(harness: Harness) -> None:
    fingerprint = await harness.open()
    end = partial(sessions.end_many, [fingerprint], reason="deleted", token="one")
    first = await harness.store.run(end(shards=harness.limits.shards))
    harness.advance(REPEATED_MS + 1)
    again = await harness.store.run(end(shards=harness.limits.shards))

    assert [each.fingerprint for each in first.ended] == [fingerprint]
    assert (again.ended, again.gone) == ([], [fingerprint])


async def test_only_what_was_created_before_a_moment_ends(harness: Harness) -> None:
    old = await harness.open()
    harness.advance(1)
    moment = harness.clock()
    young = await harness.open()
    ends = await harness.store.run(
        sessions.end_many(
            [old, young],
            reason="expired_by_operator",
            token="one",
            shards=harness.limits.shards,
            before_ms=moment,
        )
    )
    assert ([each.fingerprint for each in ends.ended], ends.gone) == ([old], [young])
    assert await harness.store.run(sessions.get(young)) is not None


async def test_an_unfinished_ending_is_given_to_one_caller_at_a_time(harness: Harness) -> None:
    ending = Ending(token="one", fingerprints=["a" * 64], reason="expired_by_operator", by="ann ☃")
    assert not await harness.store.run(endings.is_known("one"))
    await harness.store.run(endings.begin(ending))
    assert await harness.other.run(endings.is_known("one"))
    assert not await harness.store.run(endings.is_known("two"))
    assert await harness.store.run(endings.overdue()) == []

    harness.clock.advance(OVERDUE_MS)
    found = await gather(*[store.run(endings.overdue()) for store in (harness.store, harness.other)])
    assert sorted(found, key=len) == [[], [ending]]

    harness.clock.advance(OVERDUE_MS)
    assert await harness.store.run(endings.overdue()) == [ending]
    await harness.store.run(endings.finish("one"))
    assert not await harness.other.run(endings.is_known("one"))
    harness.clock.advance(OVERDUE_MS)
    assert await harness.store.run(endings.overdue()) == []
