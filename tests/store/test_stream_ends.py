"""Event logs that have ended, or whose node or session is gone: what every implementation promises."""

from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import EXCHANGE, HOUR, Harness, a_fingerprint, payloads


async def test_a_dead_nodes_exchange_is_closed_once(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"progress")
    taken = await harness.claim(fingerprint)

    for _ in range(2):
        closed = await harness.other.run(
            streams.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=harness.stream_limits)
        )
        assert closed is not None
        assert (closed.position, closed.claim) == (2, taken.claim)

    batch = await harness.read(fingerprint, taken)
    assert (payloads(batch), batch.ended) == ([b"progress", b"lost"], True)


async def test_a_node_that_was_taken_for_dead_cannot_answer_any_more(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.other.run(
        streams.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=harness.stream_limits)
    )

    assert await harness.append(fingerprint, b"response", last=True) is None
    assert await harness.append(fingerprint, b"progress") is None
    assert await harness.kept(fingerprint) == [(1, b"lost")]


async def test_an_answered_exchange_is_no_orphan(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    answered = await harness.append(fingerprint, b"response", last=True)

    closed = await harness.other.run(
        streams.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=harness.stream_limits)
    )

    assert closed == answered
    assert await harness.kept(fingerprint) == [(1, b"response")]
    assert (
        await harness.store.run(
            streams.close_orphan(fingerprint, "unknown", payload=b"lost", limits=harness.stream_limits)
        )
        is None
    )


async def test_nothing_is_read_or_written_after_a_session_ended(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two", key="once")
    taken = await harness.claim(fingerprint)

    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await assert_gone(harness, fingerprint, taken.claim.token)


async def test_nothing_is_read_or_written_after_a_session_idled_out(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.publish(fingerprint, b"one")
    taken = await harness.claim(fingerprint)

    harness.advance(HOUR)

    await assert_gone(harness, fingerprint, taken.claim.token)


async def test_nothing_is_read_or_written_for_a_session_that_never_was(harness: Harness) -> None:
    await assert_gone(harness, a_fingerprint(), 1)


async def assert_gone(harness: Harness, fingerprint: str, token: int) -> None:
    store, limits = harness.store, harness.stream_limits
    opened = await store.run(streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits))
    assert opened is None
    assert await harness.append(fingerprint, b"two", first=2) is None
    assert await harness.publish(fingerprint, b"three") is None
    assert harness.sync.run(streams.publish(fingerprint, payloads=[b"four"], key="k", limits=limits)) is None
    assert (
        await store.run(streams.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=limits)) is None
    )
    assert await store.run(streams.keep([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)])) == frozenset()
    for stream, after in ((EXCHANGE, 0), (STANDALONE, None)):
        assert await store.run(streams.claim(fingerprint, stream, node="b", after=after)) is None
        assert await store.run(streams.read(fingerprint, stream, token=token, after=0, max_bytes=100)) is None


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
                fingerprint, name, first=1, payloads=[b"response"], last=True, limits=harness.stream_limits
            )
        )
        await harness.store.run(streams.finish(fingerprint, name, kept=2, kept_bytes=1000))

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
                fingerprint, name, first=1, payloads=[b"x" * 50], last=True, limits=harness.stream_limits
            )
        )
        for _ in range(2):
            await harness.store.run(streams.finish(fingerprint, name, kept=100, kept_bytes=100))

    there = [name for name in names if await harness.store.run(streams.keep([(fingerprint, name)]))]
    assert there == names[3:]


async def test_a_session_that_is_over_leaves_no_stream_that_ended(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000))
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await harness.store.run(streams.forget(fingerprint))
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000))

    assert await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0)) is None
