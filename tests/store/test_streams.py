"""Event logs: what every implementation promises."""

from mcp_sessions.store.streaming import Claim
from tests.store.stream_worlds import EXCHANGE, Streams


async def test_an_exchange_is_claimed_by_the_node_that_runs_it(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    claim = await streams.store.open_stream(
        fingerprint, EXCHANGE, node="a", request_id="7", limits=streams.limits
    )

    assert claim == Claim(node="a", token=1)
    appended = await streams.append(fingerprint, b"one", b"two")
    assert appended is not None
    assert (appended.position, appended.claim) == (2, claim)


async def test_another_process_reads_what_was_appended(streams: Streams) -> None:
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one", b"two\x00\xff")

    assert await streams.kept(fingerprint) == [(1, b"one"), (2, b"two\x00\xff")]
