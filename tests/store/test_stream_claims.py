"""Claims, which say who delivers a stream and from where: what every driver promises."""

from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import EXCHANGE, FIRST, Harness, a_fingerprint, events, payloads


async def test_an_exchange_is_claimed_by_the_node_that_runs_it(harness: Harness) -> None:
    fingerprint = await harness.open()

    claim = await harness.store.run(
        streams.open_stream(fingerprint, EXCHANGE, node="a", request_id="7", limits=harness.stream_limits)
    )

    assert claim == Claim(node="a", token=1)
    appended = await harness.append(fingerprint, b"one", b"two")
    assert appended is not None
    assert (appended.position, appended.claim) == (2, claim)


async def test_the_newest_claim_is_the_only_one_that_reads(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one", last=True)

    older, newer = await harness.claim(fingerprint), await harness.claim(fingerprint, node="c")

    assert (older.replaced, newer.replaced) == (Claim(node="a", token=1), older.claim)
    silenced = await harness.read(fingerprint, older)
    assert (silenced.valid, silenced.ended, list(silenced.events)) == (False, False, [])
    assert payloads(await harness.read(fingerprint, newer)) == [b"one"]


async def test_an_append_returns_who_delivers(harness: Harness) -> None:
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


async def test_a_stream_that_ended_before_a_position_ends(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    batch = await harness.read(fingerprint, await harness.claim(fingerprint, after=2**53))
    assert (list(batch.events), batch.ended) == ([], True)
