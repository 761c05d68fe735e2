"""Event logs: what every implementation promises."""

from dataclasses import replace

from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.store.calls.streams import Claim, Closed, Rerun
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import (
    EXCHANGE,
    FIRST,
    HOUR,
    MINUTE,
    Harness,
    a_fingerprint,
    events,
    gather,
    payloads,
)


async def test_an_exchange_is_claimed_by_the_node_that_runs_it(harness: Harness) -> None:
    fingerprint = await harness.open()

    claim = await harness.store.run(
        streams.open_stream(fingerprint, EXCHANGE, node="a", request_id="7", limits=harness.stream_limits)
    )

    assert claim == Claim(node="a", token=1)
    appended = await harness.append(fingerprint, b"one", b"two")
    assert appended is not None
    assert (appended.position, appended.claim) == (2, claim)


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


async def test_the_newest_claim_is_the_only_one_that_reads(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one", last=True)

    older, newer = await harness.claim(fingerprint), await harness.claim(fingerprint, node="c")

    assert (older.replaced, newer.replaced) == (Claim(node="a", token=1), older.claim)
    silenced = await harness.read(fingerprint, older)
    assert (silenced.valid, silenced.ended, list(silenced.events)) == (False, False, [])
    assert payloads(await harness.read(fingerprint, newer)) == [b"one"]


async def test_who_appends_learns_who_delivers(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    taken = await harness.claim(fingerprint, node="b")

    appended = await harness.append(fingerprint, b"one")

    assert appended is not None
    assert appended.claim == taken.claim == Claim(node="b", token=FIRST)


async def test_the_newest_claim_is_found_while_the_session_is_alive(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    assert await harness.store.run(streams.delivered_by(fingerprint, STANDALONE)) is None

    taken = await harness.claim(fingerprint, node="b")

    assert await harness.store.run(streams.delivered_by(fingerprint, EXCHANGE)) == taken.claim
    assert await harness.store.run(streams.delivered_by(a_fingerprint(), EXCHANGE)) is None


async def test_a_claim_tells_what_a_resumer_must_know(harness: Harness) -> None:
    fingerprint = await harness.exchange(node="a")
    await harness.append(fingerprint, b"one", b"two")

    taken = await harness.claim(fingerprint, after=1)

    assert (taken.origin, taken.request_id, taken.after) == ("a", "7", 1)


async def test_a_message_that_was_sent_before_it_was_logged_is_not_sent_again(harness: Harness) -> None:
    """While the store was away, the node sent messages 2 and 3."""
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    taken = await harness.claim(fingerprint, after=3)

    await harness.append(fingerprint, b"two", b"three", b"four", first=2)

    assert events(await harness.read(fingerprint, taken)) == [(4, b"four")]


async def test_an_orphans_end_follows_what_was_sent_before_it_was_logged(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    taken = await harness.claim(fingerprint, after=3)

    await harness.close_orphan(fingerprint, after=3)

    batch = await harness.read(fingerprint, taken)
    assert (events(batch), batch.ended) == ([(4, b"lost")], True)


async def test_a_stream_that_ended_before_a_position_ends(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    batch = await harness.read(fingerprint, await harness.claim(fingerprint, after=2**53))
    assert (list(batch.events), batch.ended) == ([], True)


async def rerun(harness: Harness, fingerprint: str, node: str, *, dead: str, most: int = 2) -> Rerun | None:
    return await harness.other.run(streams.rerun(fingerprint, EXCHANGE, dead=dead, node=node, most=most))


async def test_a_lost_exchange_is_run_again_by_one_node(harness: Harness) -> None:
    fingerprint = await harness.exchange()

    outcomes = await gather(*[rerun(harness, fingerprint, node, dead="a") for node in "bcdefghi"])

    [origin] = {outcome.origin for outcome in outcomes}
    assert origin in "bcdefghi"
    assert outcomes == [Rerun(origin=origin, count=1)] * 8
    assert await rerun(harness, fingerprint, origin, dead="a") == Rerun(origin=origin, count=1)
    assert (await harness.claim(fingerprint)).origin == origin


async def test_each_loss_is_one_more_run_and_there_are_only_so_many(harness: Harness) -> None:
    fingerprint = await harness.exchange()

    runs = [await rerun(harness, fingerprint, node, dead=dead) for dead, node in ("ab", "bc", "cd")]

    assert runs == [Rerun(origin="b", count=1), Rerun(origin="c", count=2), Rerun(origin="c", count=2)]


async def test_only_the_node_that_runs_an_exchange_again_answers(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await rerun(harness, fingerprint, "b", dead="a")
    await rerun(harness, fingerprint, "c", dead="b")

    late = await harness.append(fingerprint, b"of a", last=True)
    assert await harness.close_orphan(fingerprint, origin="a") == Closed(
        claim=Claim(node="a", token=1), origin="c"
    )
    assert await harness.close_orphan(fingerprint, origin="b", payload=b"of b") == Closed(
        claim=Claim(node="a", token=1), origin="c"
    )
    await harness.close_orphan(fingerprint, origin="c", payload=b"of c")

    assert late is not None
    assert not late.accepted
    assert await harness.kept(fingerprint) == [(1, b"of c")]
    assert await rerun(harness, fingerprint, "d", dead="c") == Rerun(origin="", count=2)


async def test_who_runs_an_exchange_again_keeps_its_stream(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await rerun(harness, fingerprint, "b", dead="a")
    for _ in range(3):
        harness.advance(4 * MINUTE)
        assert await rerun(harness, fingerprint, "b", dead="b") == Rerun(origin="b", count=1)
    await rerun(harness, fingerprint, "c", dead="b")
    assert await rerun(harness, fingerprint, "b", dead="b") == Rerun(origin="c", count=2)
    harness.advance(5 * MINUTE + 1)
    assert await rerun(harness, fingerprint, "c", dead="c") is None


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


async def test_a_dead_nodes_exchange_is_closed_once(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"progress")
    taken = await harness.claim(fingerprint)

    for _ in range(2):
        closed = await harness.close_orphan(fingerprint)
        assert closed == Closed(claim=taken.claim, origin="")

    batch = await harness.read(fingerprint, taken)
    assert (payloads(batch), batch.ended) == ([b"progress", b"lost"], True)


async def test_a_node_that_was_taken_for_dead_cannot_answer_any_more(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.close_orphan(fingerprint)

    for last in (True, False):
        refused = await harness.append(fingerprint, b"response", last=last)
        assert refused is not None
        assert (refused.accepted, refused.claim) == (False, Claim(node="a", token=1))
    assert await harness.kept(fingerprint) == [(1, b"lost")]


async def test_an_answered_exchange_is_no_orphan(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)

    closed = await harness.close_orphan(fingerprint)

    assert closed == Closed(claim=Claim(node="a", token=1), origin="")
    assert await harness.kept(fingerprint) == [(1, b"response")]
    assert await harness.close_orphan(fingerprint, stream="unknown") is None


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


async def test_of_the_streams_that_ended_the_newest_are_kept_and_those_that_run_stay(
    harness: Harness,
) -> None:
    fingerprint = await harness.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in [*names, "f" * 16]:
        await harness.store.run(
            streams.open_stream(fingerprint, name, node="a", request_id="7", limits=harness.stream_limits)
        )
    for name in names:
        await harness.store.run(
            streams.append(
                fingerprint,
                name,
                node="a",
                first=1,
                payloads=[b"response"],
                last=True,
                limits=harness.stream_limits,
            )
        )
        await harness.store.run(streams.finish(fingerprint, name, kept=2, kept_bytes=1000, ttl_ms=300_000))

    there = [
        name for name in [*names, "f" * 16] if await harness.store.run(streams.keep([(fingerprint, name)]))
    ]
    assert there == [*names[3:], "f" * 16]


async def test_of_large_streams_that_ended_fewer_are_kept(harness: Harness) -> None:
    fingerprint = await harness.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in names:
        await harness.store.run(
            streams.open_stream(fingerprint, name, node="a", request_id="7", limits=harness.stream_limits)
        )
        await harness.store.run(
            streams.append(
                fingerprint,
                name,
                node="a",
                first=1,
                payloads=[b"x" * 50],
                last=True,
                limits=harness.stream_limits,
            )
        )
        for _ in range(2):
            await harness.store.run(
                streams.finish(fingerprint, name, kept=100, kept_bytes=100, ttl_ms=300_000)
            )

    there = [name for name in names if await harness.store.run(streams.keep([(fingerprint, name)]))]
    assert there == names[3:]


async def test_a_session_that_is_over_leaves_no_stream_that_ended(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000, ttl_ms=300_000))
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await harness.store.run(streams.forget(fingerprint))
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000, ttl_ms=300_000))

    assert (
        await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0, ttl_ms=300_000))
        is None
    )
