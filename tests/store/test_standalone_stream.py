"""The standalone stream of a session: what every implementation promises."""

from dataclasses import replace

from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import MOST_PUBLISHED, Batch, Claim
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import MINUTE, Harness, events, payloads


async def delivered(harness: Harness, fingerprint: str, *, after: int | None = None) -> Batch:
    """What a new claim delivers."""
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=after)
    return await harness.read(fingerprint, taken, stream=STANDALONE)


async def test_it_exists_for_every_session(harness: Harness) -> None:
    fingerprint = await harness.open()

    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)

    assert (taken.claim, taken.replaced) == (Claim(node="b", token=1), None)
    assert (taken.origin, taken.request_id, taken.after) == ("", "", 0)


async def test_before_the_first_claim_nobody_delivers(harness: Harness) -> None:
    fingerprint = await harness.open()

    unclaimed = await harness.publish(fingerprint, b"one")
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    claimed = await harness.publish(fingerprint, b"two")

    assert unclaimed is not None
    assert claimed is not None
    assert (unclaimed.position, unclaimed.claim) == (1, None)
    assert (claimed.position, claimed.claim) == (2, taken.claim)


async def test_messages_from_everywhere_are_in_one_order(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    await harness.other.run(
        streams.publish(fingerprint, payloads=[b"three"], key="b", limits=harness.stream_limits)
    )
    harness.sync.run(streams.publish(fingerprint, payloads=[b"four"], key="c", limits=harness.stream_limits))

    batch = await delivered(harness, fingerprint)

    assert events(batch) == [(1, b"one"), (2, b"two"), (3, b"three"), (4, b"four")]
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

    assert payloads(await delivered(harness, fingerprint, after=1)) == [b"two", b"three"]
    assert payloads(await delivered(harness, fingerprint)) == [], "the cursor does not go back"


async def test_who_lost_the_claim_marks_nothing_delivered(harness: Harness) -> None:
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
    assert (first.position, again.position) == (1, 2)
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
    assert (oldest.position, remembered.position) == (MOST_PUBLISHED + 2, MOST_PUBLISHED + 2)


async def test_what_nobody_fetches_is_bounded(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_events=2)
    fingerprint = await harness.open()
    for n in range(1, 5):
        await harness.publish(fingerprint, b"%d" % n)

    assert events(await delivered(harness, fingerprint)) == [(3, b"3"), (4, b"4")]


async def test_positions_go_on_when_the_log_is_gone(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    await delivered(harness, fingerprint)
    harness.advance(harness.stream_limits.ttl_ms + 1)
    assert payloads(await delivered(harness, fingerprint, after=0)) == []

    await harness.publish(fingerprint, b"three")

    assert events(await delivered(harness, fingerprint)) == [(3, b"three")]
    assert events(await delivered(harness, fingerprint, after=2)) == [(3, b"three")]


async def test_the_bytes_of_a_log_that_is_gone_do_not_count(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_bytes=10)
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"12345678")
    harness.advance(harness.stream_limits.ttl_ms + 1)

    await harness.publish(fingerprint, b"1234", b"5678")

    assert payloads(await delivered(harness, fingerprint)) == [b"1234", b"5678"]
