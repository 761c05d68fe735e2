"""The standalone stream of a session: what every implementation promises."""

from dataclasses import replace

from mcp_sessions.store.stream_commands import MOST_PUBLISHED
from mcp_sessions.store.streaming import STANDALONE, Batch, Claim
from tests.store.stream_worlds import Streams, events, payloads
from tests.store.worlds import MINUTE


async def delivered(streams: Streams, fingerprint: str, *, after: int | None = None) -> Batch:
    """What a new claim delivers."""
    taken = await streams.claim(fingerprint, stream=STANDALONE, after=after)
    return await streams.read(fingerprint, taken, stream=STANDALONE)


async def test_it_exists_for_every_session(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    taken = await streams.claim(fingerprint, stream=STANDALONE, after=None)

    assert (taken.claim, taken.replaced) == (Claim(node="b", token=1), None)
    assert (taken.origin, taken.origin_seen_ms, taken.request_id, taken.after) == ("", 0, "", 0)


async def test_before_the_first_claim_nobody_delivers(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    unclaimed = await streams.publish(fingerprint, b"one")
    taken = await streams.claim(fingerprint, stream=STANDALONE, after=None)
    claimed = await streams.publish(fingerprint, b"two")

    assert unclaimed is not None
    assert claimed is not None
    assert (unclaimed.position, unclaimed.claim) == (1, None)
    assert (claimed.position, claimed.claim) == (2, taken.claim)


async def test_messages_from_everywhere_are_in_one_order(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"one", b"two")
    await streams.other.publish(fingerprint, payloads=[b"three"], key="b", limits=streams.limits)
    streams.directory.publish(fingerprint, payloads=[b"four"], key="c", limits=streams.limits)

    batch = await delivered(streams, fingerprint)

    assert events(batch) == [(1, b"one"), (2, b"two"), (3, b"three"), (4, b"four")]
    assert not batch.ended


async def test_what_was_delivered_is_not_delivered_again(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"one", b"two")
    assert payloads(await delivered(streams, fingerprint)) == [b"one", b"two"]
    await streams.publish(fingerprint, b"three")

    assert payloads(await delivered(streams, fingerprint)) == [b"three"]
    assert payloads(await delivered(streams, fingerprint)) == []


async def test_a_client_that_names_a_position_resumes_there(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"one", b"two", b"three")
    await delivered(streams, fingerprint)

    assert payloads(await delivered(streams, fingerprint, after=1)) == [b"two", b"three"]
    assert payloads(await delivered(streams, fingerprint)) == [], "the cursor does not go back"


async def test_who_lost_the_claim_marks_nothing_delivered(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    older = await streams.claim(fingerprint, stream=STANDALONE, after=None)
    newer = await streams.claim(fingerprint, stream=STANDALONE, after=None, node="c")
    await streams.publish(fingerprint, b"one")

    assert not (await streams.read(fingerprint, older, stream=STANDALONE)).valid
    assert payloads(await streams.read(fingerprint, newer, stream=STANDALONE)) == [b"one"]


async def test_a_part_that_was_read_is_all_that_was_delivered(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"12345", b"67890")
    taken = await streams.claim(fingerprint, stream=STANDALONE, after=None)

    part = await streams.read(fingerprint, taken, stream=STANDALONE, max_bytes=5)

    assert payloads(part) == [b"12345"]
    assert payloads(await delivered(streams, fingerprint)) == [b"67890"]


async def test_a_publication_is_made_once_however_often_it_is_repeated(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    first = await streams.publish(fingerprint, b"one", key="job-1")
    await streams.publish(fingerprint, b"two", key="job-2")

    again = await streams.other.publish(fingerprint, payloads=[b"one"], key="job-1", limits=streams.limits)

    assert first is not None
    assert again is not None
    assert (first.position, again.position) == (1, 2)
    assert payloads(await delivered(streams, fingerprint)) == [b"one", b"two"]


async def test_publications_are_remembered_for_a_minute(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"one", key="job-1")
    streams.advance(MINUTE - 1_000)
    await streams.publish(fingerprint, b"not again", key="job-1")
    await streams.publish(fingerprint, b"two", key="job-2")
    streams.advance(1_000)

    await streams.publish(fingerprint, b"three", key="job-1")

    assert payloads(await delivered(streams, fingerprint)) == [b"one", b"two", b"three"]


async def test_so_many_publications_are_remembered(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    for n in range(MOST_PUBLISHED + 1):
        await streams.publish(fingerprint, b"%d" % n, key=f"job-{n}")

    oldest = await streams.publish(fingerprint, b"again", key="job-0")
    remembered = await streams.publish(fingerprint, b"not again", key="job-2")

    assert oldest is not None
    assert remembered is not None
    assert (oldest.position, remembered.position) == (MOST_PUBLISHED + 2, MOST_PUBLISHED + 2)


async def test_what_nobody_fetches_is_bounded(streams: Streams) -> None:
    streams.limits = replace(streams.limits, max_events=2)
    fingerprint = await streams.world.open()
    for n in range(1, 5):
        await streams.publish(fingerprint, b"%d" % n)

    assert events(await delivered(streams, fingerprint)) == [(3, b"3"), (4, b"4")]


async def test_positions_go_on_when_the_log_is_gone(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"one", b"two")
    await delivered(streams, fingerprint)
    streams.advance(streams.limits.ttl_ms)
    assert payloads(await delivered(streams, fingerprint, after=0)) == []

    await streams.publish(fingerprint, b"three")

    assert events(await delivered(streams, fingerprint)) == [(3, b"three")]
    assert events(await delivered(streams, fingerprint, after=2)) == [(3, b"three")]


async def test_the_bytes_of_a_log_that_is_gone_do_not_count(streams: Streams) -> None:
    streams.limits = replace(streams.limits, max_bytes=10)
    fingerprint = await streams.world.open()
    await streams.publish(fingerprint, b"12345678")
    streams.advance(streams.limits.ttl_ms)

    await streams.publish(fingerprint, b"1234", b"5678")

    assert payloads(await delivered(streams, fingerprint)) == [b"1234", b"5678"]
