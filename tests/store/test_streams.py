"""Event logs, from the first message to the last: what every driver promises."""

from dataclasses import replace

from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import (
    EXCHANGE,
    FIRST,
    HOUR,
    MINUTE,
    Harness,
    a_fingerprint,
    events,
    payloads,
)


async def test_a_log_that_is_opened_again_keeps_what_it_holds(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")

    again = await harness.store.run(
        streams.open_stream(fingerprint, EXCHANGE, node="a", request_id="7", limits=harness.stream_limits)
    )

    assert again == Claim(node="a", token=1)
    assert await harness.kept(fingerprint) == [(1, b"one")]


async def test_another_process_reads_what_was_appended(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one", b"two\x00\xff")
    await harness.append(fingerprint, b"", first=3)

    assert await harness.kept(fingerprint) == [(1, b"one"), (2, b"two\x00\xff"), (3, b"")]


async def test_a_repeated_append_appends_nothing_twice(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    first = await harness.append(fingerprint, b"one", b"two")

    assert await harness.append(fingerprint, b"one", b"two") == first
    await harness.append(fingerprint, b"two", b"three", first=2)

    assert await harness.kept(fingerprint) == [(1, b"one"), (2, b"two"), (3, b"three")]


async def test_nothing_follows_the_response(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    ended = await harness.append(fingerprint, b"progress", b"response", last=True)

    late = await harness.append(fingerprint, b"late", first=3)
    assert late is not None
    assert not late.accepted
    assert await harness.append(fingerprint, b"progress", b"response", last=True) == ended
    assert await harness.kept(fingerprint) == [(1, b"progress"), (2, b"response")]


async def test_a_log_that_was_never_opened_takes_nothing(harness: Harness) -> None:
    fingerprint = await harness.open()

    assert await harness.append(fingerprint, b"one") is None
    assert (
        await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0, ttl_ms=300_000))
        is None
    )
    assert (
        await harness.store.run(
            streams.read(fingerprint, EXCHANGE, claim=Claim(node="b", token=1), after=0, max_bytes=100)
        )
        is None
    )


async def test_a_read_says_whether_anything_follows(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    open_ = await harness.read(fingerprint, await harness.claim(fingerprint))
    await harness.append(fingerprint, b"response", first=2, last=True)

    taken = await harness.claim(fingerprint)
    part = await harness.read(fingerprint, taken, max_bytes=1)
    whole = await harness.read(fingerprint, taken)
    nothing = await harness.read(fingerprint, await harness.claim(fingerprint, after=2))

    assert (open_.ended, part.ended, whole.ended, nothing.ended) == (False, False, True, True)
    assert (payloads(whole), payloads(nothing)) == ([b"one", b"response"], [])


async def test_a_read_gets_as_many_events_as_fit_and_at_least_one(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, *[b"12345"] * 90)
    taken = await harness.claim(fingerprint)

    sizes = {
        bytes_: len((await harness.read(fingerprint, taken, max_bytes=bytes_)).events)
        for bytes_ in (0, 1, 5, 9, 10, 64 * 5, 65 * 5, 450, 10_000)
    }

    assert sizes == {0: 1, 1: 1, 5: 1, 9: 1, 10: 2, 320: 64, 325: 65, 450: 90, 10_000: 90}


async def test_reading_goes_on_where_it_stopped(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, *[b"%d" % n for n in range(1, 51)])
    taken = await harness.claim(fingerprint)
    got: list[int] = []
    while batch := (await harness.read(fingerprint, taken, max_bytes=7)).events:
        got += [event.position for event in batch]
        taken = replace(taken, after=got[-1])

    assert got == list(range(1, 51))


async def test_the_oldest_events_go_first_when_there_are_too_many(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_events=3)
    fingerprint = await harness.exchange()
    for n in range(1, 6):
        await harness.append(fingerprint, b"%d" % n, first=n)

    assert await harness.kept(fingerprint) == [(3, b"3"), (4, b"4"), (5, b"5")]
    resumed = await harness.read(fingerprint, await harness.claim(fingerprint, after=1))
    assert events(resumed)[0] == (3, b"3"), "the oldest that is left"


async def test_the_oldest_events_go_first_when_they_are_too_large(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_bytes=10)
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"1234", b"5678", b"9")
    assert len(await harness.kept(fingerprint)) == 3

    await harness.append(fingerprint, b"ab", first=4)

    assert await harness.kept(fingerprint) == [(2, b"5678"), (3, b"9"), (4, b"ab")]


async def test_a_response_is_kept_however_large(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_bytes=10)
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"1234")
    await harness.append(fingerprint, b"x" * 100, first=2, last=True)

    assert await harness.kept(fingerprint) == [(2, b"x" * 100)]


async def test_a_log_vanishes_some_time_after_the_last_sign_of_life(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    harness.advance(4 * MINUTE)
    await harness.append(fingerprint, b"one")
    harness.advance(4 * MINUTE)
    await harness.claim(fingerprint)
    harness.advance(4 * MINUTE)
    assert await harness.store.run(streams.keep([(fingerprint, EXCHANGE)])) == {(fingerprint, EXCHANGE)}
    harness.advance(4 * MINUTE)
    assert await harness.kept(fingerprint) == [(1, b"one")]

    harness.advance(5 * MINUTE + 1)

    assert (
        await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0, ttl_ms=300_000))
        is None
    )
    assert await harness.append(fingerprint, b"two", first=2) is None


async def test_only_streams_that_exist_are_kept(harness: Harness) -> None:
    fingerprint, gone = await harness.exchange(), await harness.exchange()
    await harness.store.run(sessions.end(gone, principal=None, reason="deleted"))
    asked = [(fingerprint, EXCHANGE), (fingerprint, "unknown"), (fingerprint, STANDALONE), (gone, EXCHANGE)]

    assert await harness.store.run(streams.keep(asked)) == {(fingerprint, EXCHANGE)}
    assert await harness.store.run(streams.keep([])) == frozenset()
    assert (
        await harness.store.run(
            streams.read(fingerprint, STANDALONE, claim=Claim(node="b", token=0), after=0, max_bytes=9)
        )
        is None
    )


async def test_streams_of_one_session_are_apart(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.store.run(
        streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=harness.stream_limits)
    )
    await harness.append(fingerprint, b"of 7")
    await harness.append(fingerprint, b"of 8", stream="ff", last=True)
    await harness.publish(fingerprint, b"of none")

    assert await harness.kept(fingerprint) == [(1, b"of 7")]
    assert await harness.kept(fingerprint, stream="ff") == [(1, b"of 8")]
    assert await harness.kept(fingerprint, stream=STANDALONE) == [(FIRST, b"of none")]


async def test_streams_of_the_same_name_in_two_sessions_are_apart(harness: Harness) -> None:
    one, two = await harness.exchange(), await harness.exchange()
    await harness.append(one, b"of one")
    await harness.append(two, b"of two")

    assert await harness.kept(one) == [(1, b"of one")]
    assert await harness.kept(two) == [(1, b"of two")]


async def test_nothing_is_read_or_written_after_a_session_ended(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two", key="once")
    taken = await harness.claim(fingerprint)

    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await assert_gone(harness, fingerprint, taken.claim)


async def test_nothing_is_read_or_written_after_a_session_idled_out(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.publish(fingerprint, b"one")
    taken = await harness.claim(fingerprint)

    harness.advance(HOUR)

    await assert_gone(harness, fingerprint, taken.claim)


async def test_nothing_is_read_or_written_for_a_session_that_never_was(harness: Harness) -> None:
    await assert_gone(harness, a_fingerprint(), Claim(node="a", token=1))


async def assert_gone(harness: Harness, fingerprint: str, claim: Claim) -> None:
    store, limits = harness.store, harness.stream_limits
    opened = await store.run(streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits))
    assert opened is None
    assert await harness.append(fingerprint, b"two", first=2) is None
    assert await harness.publish(fingerprint, b"three") is None
    assert harness.sync.run(streams.publish(fingerprint, payloads=[b"four"], key="k", limits=limits)) is None
    assert await harness.close_orphan(fingerprint) is None
    assert await store.run(streams.rerun(fingerprint, EXCHANGE, dead="a", node="b", most=1)) is None
    assert await store.run(streams.release(fingerprint, token=claim.token)) is None
    assert await store.run(streams.keep([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)])) == frozenset()
    for stream, after in ((EXCHANGE, 0), (STANDALONE, None)):
        assert (
            await store.run(streams.claim(fingerprint, stream, node="b", after=after, ttl_ms=300_000)) is None
        )
        assert await store.run(streams.read(fingerprint, stream, claim=claim, after=0, max_bytes=100)) is None
