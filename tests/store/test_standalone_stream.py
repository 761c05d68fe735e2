"""The standalone stream of a session: what every driver promises."""

from dataclasses import replace

from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import MOST_PUBLISHED, Batch, Claim, Taken
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import FIRST, MINUTE, Harness, events, payloads


async def delivered(harness: Harness, fingerprint: str, *, after: int | None = None) -> Batch:
    """What a new claim delivers."""
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=after)
    return await harness.read(fingerprint, taken, stream=STANDALONE)


async def test_it_exists_for_every_session(harness: Harness) -> None:
    fingerprint = await harness.open()

    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)

    assert (taken.claim, taken.replaced) == (Claim(node="b", token=FIRST), None)
    assert (taken.origin, taken.request_id, taken.after) == ("", "", 0)


async def test_before_the_first_claim_nobody_delivers(harness: Harness) -> None:
    fingerprint = await harness.open()

    unclaimed = await harness.publish(fingerprint, b"one")
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    claimed = await harness.publish(fingerprint, b"two")

    assert unclaimed is not None
    assert claimed is not None
    assert (unclaimed.position, unclaimed.claim) == (FIRST, None)
    assert (claimed.position, claimed.claim) == (FIRST + 1, taken.claim)


async def test_messages_from_everywhere_are_in_one_order(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    await harness.other.run(
        streams.publish(fingerprint, payloads=[b"three"], key="b", limits=harness.stream_limits)
    )
    harness.sync.run(streams.publish(fingerprint, payloads=[b"four"], key="c", limits=harness.stream_limits))

    batch = await delivered(harness, fingerprint)

    assert events(batch) == [
        (FIRST, b"one"),
        (FIRST + 1, b"two"),
        (FIRST + 2, b"three"),
        (FIRST + 3, b"four"),
    ]
    assert not batch.ended


async def test_what_was_delivered_is_not_delivered_again(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    assert payloads(await delivered(harness, fingerprint)) == [b"one", b"two"]
    await harness.publish(fingerprint, b"three")

    assert payloads(await delivered(harness, fingerprint)) == [b"three"]
    assert payloads(await delivered(harness, fingerprint)) == []


async def test_a_client_that_names_a_position_resumes_there(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two", b"three")
    await delivered(harness, fingerprint)

    assert payloads(await delivered(harness, fingerprint, after=FIRST)) == [b"two", b"three"]
    assert payloads(await delivered(harness, fingerprint)) == [], "the cursor does not go back"


async def test_a_reader_that_lost_the_claim_marks_nothing_delivered(harness: Harness) -> None:
    fingerprint = await harness.open()
    older = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    newer = await harness.claim(fingerprint, stream=STANDALONE, after=None, node="c")
    await harness.publish(fingerprint, b"one")

    assert not (await harness.read(fingerprint, older, stream=STANDALONE)).valid
    assert payloads(await harness.read(fingerprint, newer, stream=STANDALONE)) == [b"one"]


async def test_a_part_that_was_read_is_all_that_was_delivered(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"12345", b"67890")
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)

    part = await harness.read(fingerprint, taken, stream=STANDALONE, max_bytes=5)

    assert payloads(part) == [b"12345"]
    assert payloads(await delivered(harness, fingerprint)) == [b"67890"]


async def test_a_publication_is_made_once_however_often_it_is_repeated(harness: Harness) -> None:
    fingerprint = await harness.open()
    first = await harness.publish(fingerprint, b"one", key="job-1")
    await harness.publish(fingerprint, b"two", key="job-2")

    again = await harness.other.run(
        streams.publish(fingerprint, payloads=[b"one"], key="job-1", limits=harness.stream_limits)
    )

    assert first is not None
    assert again is not None
    assert (first.position, again.position) == (FIRST, FIRST + 1)
    assert payloads(await delivered(harness, fingerprint)) == [b"one", b"two"]


async def test_publications_are_remembered_for_a_minute(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", key="job-1")
    harness.advance(MINUTE - 20_000)
    await harness.publish(fingerprint, b"not again", key="job-1")
    await harness.publish(fingerprint, b"two", key="job-2")
    harness.advance(20_000)

    await harness.publish(fingerprint, b"three", key="job-1")

    assert payloads(await delivered(harness, fingerprint)) == [b"one", b"two", b"three"]


async def test_so_many_publications_are_remembered(harness: Harness) -> None:
    fingerprint = await harness.open()
    for n in range(MOST_PUBLISHED + 1):
        await harness.publish(fingerprint, b"%d" % n, key=f"job-{n}")

    oldest = await harness.publish(fingerprint, b"again", key="job-0")
    remembered = await harness.publish(fingerprint, b"not again", key="job-2")

    assert oldest is not None
    assert remembered is not None
    assert oldest.position == remembered.position == FIRST + MOST_PUBLISHED + 1


async def test_what_nobody_fetches_is_bounded(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_events=2)
    fingerprint = await harness.open()
    for n in range(1, 5):
        await harness.publish(fingerprint, b"%d" % n)

    assert events(await delivered(harness, fingerprint)) == [(FIRST + 2, b"3"), (FIRST + 3, b"4")]


async def test_positions_go_on_when_the_log_is_gone(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    await delivered(harness, fingerprint)
    harness.advance(harness.stream_limits.ttl_ms + 1)
    assert payloads(await delivered(harness, fingerprint, after=0)) == []

    await harness.publish(fingerprint, b"three")

    [(position, payload)] = events(await delivered(harness, fingerprint))
    assert (position > FIRST + 1, payload) == (True, b"three")
    assert events(await delivered(harness, fingerprint, after=FIRST + 1)) == [(position, b"three")]


async def test_a_position_that_was_never_reached_is_cut_to_the_last_one(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one")
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=2**53)

    await harness.publish(fingerprint, b"two")

    assert taken.after == FIRST
    assert payloads(await harness.read(fingerprint, taken, stream=STANDALONE)) == [b"two"]


async def claims(harness: Harness, fingerprint: str, *nodes: str) -> list[Taken]:
    """One connection after the other, on these nodes."""
    return [await harness.claim(fingerprint, stream=STANDALONE, node=node, after=None) for node in nodes]


async def release(harness: Harness, fingerprint: str, taken: Taken) -> Claim | None:
    return await harness.other.run(streams.release(fingerprint, token=taken.claim.token))


async def test_an_older_connection_that_closes_leaves_the_stream_to_the_newest(harness: Harness) -> None:
    fingerprint = await harness.open()
    older, newest = await claims(harness, fingerprint, "a", "b")

    assert await release(harness, fingerprint, older) == newest.claim

    await harness.publish(fingerprint, b"one")
    assert not (await harness.read(fingerprint, older, stream=STANDALONE)).valid
    assert payloads(await harness.read(fingerprint, newest, stream=STANDALONE)) == [b"one"]


async def test_a_connection_that_closes_hands_the_stream_to_the_newest_that_is_open(harness: Harness) -> None:
    fingerprint = await harness.open()
    a, b, c, d, e = await claims(harness, fingerprint, "a", "b", "a", "c", "b")

    holders = [await release(harness, fingerprint, each) for each in (b, e, d, c, a)]

    assert holders == [e.claim, d.claim, c.claim, a.claim, None]
    unheard = await harness.publish(fingerprint, b"one")
    assert unheard is not None
    assert unheard.claim is None
    [next_] = await claims(harness, fingerprint, "a")
    assert (next_.replaced, next_.claim.token > e.claim.token) == (None, True)
    assert payloads(await harness.read(fingerprint, next_, stream=STANDALONE)) == [b"one"]


async def test_a_connection_that_closes_twice_takes_nothing_from_anybody(harness: Harness) -> None:
    fingerprint = await harness.open()
    a, b = await claims(harness, fingerprint, "a", "b")
    for _ in range(2):
        assert await release(harness, fingerprint, b) == a.claim
    assert not (await harness.read(fingerprint, b, stream=STANDALONE)).valid


async def test_a_connection_that_got_the_stream_back_repeats_nothing_that_another_delivered(
    harness: Harness,
) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one")
    older, newer = await claims(harness, fingerprint, "a", "b")
    assert payloads(await harness.read(fingerprint, newer, stream=STANDALONE)) == [b"one"]
    await release(harness, fingerprint, newer)
    assert payloads(await harness.read(fingerprint, older, stream=STANDALONE)) == []

    await harness.publish(fingerprint, b"two")

    assert payloads(await harness.read(fingerprint, older, stream=STANDALONE)) == [b"two"]


async def test_a_client_may_still_ask_for_what_came_before_a_stream_was_given_back(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    _, newer = await claims(harness, fingerprint, "a", "b")
    await harness.read(fingerprint, newer, stream=STANDALONE)
    await release(harness, fingerprint, newer)

    assert payloads(await delivered(harness, fingerprint, after=FIRST)) == [b"two"]


async def test_so_many_connections_of_a_session_wait_for_its_stream(harness: Harness) -> None:
    fingerprint = await harness.open()
    opened = await claims(harness, fingerprint, *(f"n{n}" for n in range(40)))

    holders = [await release(harness, fingerprint, each) for each in reversed(opened)]

    # One delivered, 32 waited, and the oldest were forgotten.
    assert holders == [*(each.claim for each in opened[-2:-34:-1]), *[None] * 8]


async def test_a_read_says_who_delivers_instead(harness: Harness) -> None:
    fingerprint = await harness.open()
    older, newer = await claims(harness, fingerprint, "a", "b")
    assert (await harness.read(fingerprint, older, stream=STANDALONE)).holder == newer.claim
    assert (await harness.read(fingerprint, newer, stream=STANDALONE)).holder == newer.claim
    await release(harness, fingerprint, older)
    await release(harness, fingerprint, newer)
    assert (await harness.read(fingerprint, older, stream=STANDALONE)).holder is None


async def test_the_bytes_of_a_log_that_is_gone_do_not_count(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_bytes=10)
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"12345678")
    harness.advance(harness.stream_limits.ttl_ms + 1)

    await harness.publish(fingerprint, b"1234", b"5678")

    assert payloads(await delivered(harness, fingerprint)) == [b"1234", b"5678"]
