"""Event logs: what every implementation promises."""

from dataclasses import replace

from mcp_sessions.store.streaming import STANDALONE, Claim
from tests.store.stream_worlds import EXCHANGE, Streams, events, payloads
from tests.store.worlds import HOUR, MINUTE, a_fingerprint


async def test_an_exchange_is_claimed_by_the_node_that_runs_it(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    claim = await streams.store.open_stream(
        fingerprint, EXCHANGE, node="a", request_id="7", limits=streams.limits
    )

    assert claim == Claim(node="a", token=1)
    appended = await streams.append(fingerprint, b"one", b"two")
    assert appended is not None
    assert (appended.position, appended.claim) == (2, claim)


async def test_a_log_that_is_opened_again_keeps_what_it_holds(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one")

    again = await streams.store.open_stream(
        fingerprint, EXCHANGE, node="a", request_id="7", limits=streams.limits
    )

    assert again == Claim(node="a", token=1)
    assert await streams.kept(fingerprint) == [(1, b"one")]


async def test_another_process_reads_what_was_appended(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one", b"two\x00\xff")
    await streams.append(fingerprint, b"", first=3)

    assert await streams.kept(fingerprint) == [(1, b"one"), (2, b"two\x00\xff"), (3, b"")]


async def test_a_repeated_append_appends_nothing_twice(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    first = await streams.append(fingerprint, b"one", b"two")

    assert await streams.append(fingerprint, b"one", b"two") == first
    await streams.append(fingerprint, b"two", b"three", first=2)

    assert await streams.kept(fingerprint) == [(1, b"one"), (2, b"two"), (3, b"three")]


async def test_nothing_follows_the_response(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    ended = await streams.append(fingerprint, b"progress", b"response", last=True)

    assert await streams.append(fingerprint, b"late", first=3) is None
    assert await streams.append(fingerprint, b"progress", b"response", last=True) == ended
    assert await streams.kept(fingerprint) == [(1, b"progress"), (2, b"response")]


async def test_a_log_that_was_never_opened_takes_nothing(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    assert await streams.append(fingerprint, b"one") is None
    assert await streams.store.claim(fingerprint, EXCHANGE, node="b", after=0) is None
    assert await streams.store.read(fingerprint, EXCHANGE, token=1, after=0, max_bytes=100) is None


async def test_a_read_says_whether_anything_follows(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one")
    open_ = await streams.read(fingerprint, await streams.claim(fingerprint))
    await streams.append(fingerprint, b"response", first=2, last=True)

    taken = await streams.claim(fingerprint)
    part = await streams.read(fingerprint, taken, max_bytes=1)
    whole = await streams.read(fingerprint, taken)
    nothing = await streams.read(fingerprint, await streams.claim(fingerprint, after=2))

    assert (open_.ended, part.ended, whole.ended, nothing.ended) == (False, False, True, True)
    assert (payloads(whole), payloads(nothing)) == ([b"one", b"response"], [])


async def test_a_read_gets_as_many_events_as_fit_and_at_least_one(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, *[b"12345"] * 90)
    taken = await streams.claim(fingerprint)

    sizes = {
        bytes_: len((await streams.read(fingerprint, taken, max_bytes=bytes_)).events)
        for bytes_ in (0, 1, 5, 9, 10, 64 * 5, 65 * 5, 450, 10_000)
    }

    assert sizes == {0: 1, 1: 1, 5: 1, 9: 1, 10: 2, 320: 64, 325: 65, 450: 90, 10_000: 90}


async def test_reading_goes_on_where_it_stopped(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, *[b"%d" % n for n in range(1, 51)])
    taken = await streams.claim(fingerprint)
    got: list[int] = []
    while batch := (await streams.read(fingerprint, taken, max_bytes=7)).events:
        got += [event.position for event in batch]
        taken = replace(taken, after=got[-1])

    assert got == list(range(1, 51))


async def test_the_newest_claim_is_the_only_one_that_reads(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one", last=True)

    older, newer = await streams.claim(fingerprint), await streams.claim(fingerprint, node="c")

    assert (older.replaced, newer.replaced) == (Claim(node="a", token=1), older.claim)
    silenced = await streams.read(fingerprint, older)
    assert (silenced.valid, silenced.ended, list(silenced.events)) == (False, False, [])
    assert payloads(await streams.read(fingerprint, newer)) == [b"one"]


async def test_who_appends_learns_who_delivers(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    taken = await streams.claim(fingerprint, node="b")

    appended = await streams.append(fingerprint, b"one")

    assert appended is not None
    assert appended.claim == taken.claim == Claim(node="b", token=2)


async def test_a_claim_tells_what_a_resumer_must_know(streams: Streams) -> None:
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    streams.advance(1_000)
    fingerprint = await streams.exchange(node="a")
    await streams.append(fingerprint, b"one", b"two")

    taken = await streams.claim(fingerprint, after=1)

    assert (taken.origin, taken.request_id, taken.after) == ("a", "7", 1)
    assert taken.now_ms - taken.origin_seen_ms == 1_000


async def test_a_claim_tells_that_the_origin_is_forgotten(streams: Streams) -> None:
    fingerprint = await streams.exchange(node="a")
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    await streams.store.leave("a")

    assert (await streams.claim(fingerprint)).origin_seen_ms == 0


async def test_a_position_that_was_never_reached_is_cut_to_the_last_one(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one")
    taken = await streams.claim(fingerprint, after=2**53)

    await streams.append(fingerprint, b"two", first=2)

    assert taken.after == 1
    assert events(await streams.read(fingerprint, taken)) == [(2, b"two")]


async def test_the_oldest_events_go_first_when_there_are_too_many(streams: Streams) -> None:
    streams.limits = replace(streams.limits, max_events=3)
    fingerprint = await streams.exchange()
    for n in range(1, 6):
        await streams.append(fingerprint, b"%d" % n, first=n)

    assert await streams.kept(fingerprint) == [(3, b"3"), (4, b"4"), (5, b"5")]
    resumed = await streams.read(fingerprint, await streams.claim(fingerprint, after=1))
    assert events(resumed)[0] == (3, b"3"), "the oldest that is left"


async def test_the_oldest_events_go_first_when_they_are_too_large(streams: Streams) -> None:
    streams.limits = replace(streams.limits, max_bytes=10)
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"1234", b"5678", b"9")
    assert len(await streams.kept(fingerprint)) == 3

    await streams.append(fingerprint, b"ab", first=4)

    assert await streams.kept(fingerprint) == [(2, b"5678"), (3, b"9"), (4, b"ab")]


async def test_a_response_is_kept_however_large(streams: Streams) -> None:
    streams.limits = replace(streams.limits, max_bytes=10)
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"1234")
    await streams.append(fingerprint, b"x" * 100, first=2, last=True)

    assert await streams.kept(fingerprint) == [(2, b"x" * 100)]


async def test_a_log_vanishes_some_time_after_the_last_sign_of_life(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    streams.advance(4 * MINUTE)
    await streams.append(fingerprint, b"one")
    streams.advance(4 * MINUTE)
    await streams.claim(fingerprint)
    streams.advance(4 * MINUTE)
    assert await streams.store.keep_streams([(fingerprint, EXCHANGE)]) == {(fingerprint, EXCHANGE)}
    streams.advance(4 * MINUTE)
    assert await streams.kept(fingerprint) == [(1, b"one")]

    streams.advance(5 * MINUTE)

    assert await streams.store.claim(fingerprint, EXCHANGE, node="b", after=0) is None
    assert await streams.append(fingerprint, b"two", first=2) is None


async def test_only_streams_that_exist_are_kept(streams: Streams) -> None:
    fingerprint, gone = await streams.exchange(), await streams.exchange()
    await streams.world.store.end(gone, principal=None, reason="deleted")
    asked = [(fingerprint, EXCHANGE), (fingerprint, "unknown"), (fingerprint, STANDALONE), (gone, EXCHANGE)]

    assert await streams.store.keep_streams(asked) == {(fingerprint, EXCHANGE)}
    assert await streams.store.keep_streams([]) == frozenset()
    assert await streams.store.read(fingerprint, STANDALONE, token=0, after=0, max_bytes=9) is None


async def test_streams_of_one_session_are_apart(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.store.open_stream(fingerprint, "ff", node="a", request_id="8", limits=streams.limits)
    await streams.append(fingerprint, b"of 7")
    await streams.append(fingerprint, b"of 8", stream="ff", last=True)
    await streams.publish(fingerprint, b"of none")

    assert await streams.kept(fingerprint) == [(1, b"of 7")]
    assert await streams.kept(fingerprint, stream="ff") == [(1, b"of 8")]
    assert await streams.kept(fingerprint, stream=STANDALONE) == [(1, b"of none")]


async def test_streams_of_the_same_name_in_two_sessions_are_apart(streams: Streams) -> None:
    one, two = await streams.exchange(), await streams.exchange()
    await streams.append(one, b"of one")
    await streams.append(two, b"of two")

    assert await streams.kept(one) == [(1, b"of one")]
    assert await streams.kept(two) == [(1, b"of two")]


async def test_a_dead_nodes_exchange_is_closed_once(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"progress")
    taken = await streams.claim(fingerprint)

    for _ in range(2):
        closed = await streams.other.close_orphan(
            fingerprint, EXCHANGE, payload=b"lost", limits=streams.limits
        )
        assert closed is not None
        assert (closed.position, closed.claim) == (2, taken.claim)

    batch = await streams.read(fingerprint, taken)
    assert (payloads(batch), batch.ended) == ([b"progress", b"lost"], True)


async def test_a_node_that_was_taken_for_dead_cannot_answer_any_more(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.other.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=streams.limits)

    assert await streams.append(fingerprint, b"response", last=True) is None
    assert await streams.append(fingerprint, b"progress") is None
    assert await streams.kept(fingerprint) == [(1, b"lost")]


async def test_an_answered_exchange_is_no_orphan(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    answered = await streams.append(fingerprint, b"response", last=True)

    closed = await streams.other.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=streams.limits)

    assert closed == answered
    assert await streams.kept(fingerprint) == [(1, b"response")]
    assert (
        await streams.store.close_orphan(fingerprint, "unknown", payload=b"lost", limits=streams.limits)
        is None
    )


async def test_nothing_is_read_or_written_after_a_session_ended(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one")
    await streams.publish(fingerprint, b"two", key="once")
    taken = await streams.claim(fingerprint)

    await streams.world.store.end(fingerprint, principal=None, reason="deleted")

    await assert_gone(streams, fingerprint, taken.claim.token)


async def test_nothing_is_read_or_written_after_a_session_idled_out(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.publish(fingerprint, b"one")
    taken = await streams.claim(fingerprint)

    streams.advance(HOUR)

    await assert_gone(streams, fingerprint, taken.claim.token)


async def test_nothing_is_read_or_written_for_a_session_that_never_was(streams: Streams) -> None:
    await assert_gone(streams, a_fingerprint(), 1)


async def assert_gone(streams: Streams, fingerprint: str, token: int) -> None:
    store, limits = streams.store, streams.limits
    opened = await store.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits)
    assert opened is None
    assert await streams.append(fingerprint, b"two", first=2) is None
    assert await streams.publish(fingerprint, b"three") is None
    assert streams.directory.publish(fingerprint, payloads=[b"four"], key="k", limits=limits) is None
    assert await store.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=limits) is None
    assert await store.keep_streams([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)]) == frozenset()
    for stream, after in ((EXCHANGE, 0), (STANDALONE, None)):
        assert await store.claim(fingerprint, stream, node="b", after=after) is None
        assert await store.read(fingerprint, stream, token=token, after=0, max_bytes=100) is None


async def test_of_the_streams_that_ended_the_newest_are_kept_and_those_that_run_stay(
    streams: Streams,
) -> None:
    fingerprint = await streams.world.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in [*names, "f" * 16]:
        await streams.store.open_stream(fingerprint, name, node="a", request_id="7", limits=streams.limits)
    for name in names:
        await streams.store.append(
            fingerprint, name, first=1, payloads=[b"response"], last=True, limits=streams.limits
        )
        await streams.store.finished(fingerprint, name, kept=2, kept_bytes=1000)

    there = [name for name in [*names, "f" * 16] if await streams.store.keep_streams([(fingerprint, name)])]
    assert there == [*names[3:], "f" * 16]


async def test_of_large_streams_that_ended_fewer_are_kept(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in names:
        await streams.store.open_stream(fingerprint, name, node="a", request_id="7", limits=streams.limits)
        await streams.store.append(
            fingerprint, name, first=1, payloads=[b"x" * 50], last=True, limits=streams.limits
        )
        for _ in range(2):
            await streams.store.finished(fingerprint, name, kept=100, kept_bytes=100)

    there = [name for name in names if await streams.store.keep_streams([(fingerprint, name)])]
    assert there == names[3:]


async def test_a_session_that_is_over_leaves_no_stream_that_ended(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"response", last=True)
    await streams.store.finished(fingerprint, EXCHANGE, kept=16, kept_bytes=1000)
    await streams.world.store.end(fingerprint, principal=None, reason="deleted")

    await streams.store.forget(fingerprint)
    await streams.store.finished(fingerprint, EXCHANGE, kept=16, kept_bytes=1000)

    assert await streams.store.claim(fingerprint, EXCHANGE, node="b", after=0) is None
