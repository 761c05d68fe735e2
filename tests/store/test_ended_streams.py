"""Streams that have ended, of which a session keeps only the newest: what every driver promises."""

from collections.abc import Iterable

from mcp_sessions.store.calls import sessions, streams
from tests.store.harness import EXCHANGE, Harness


async def kept_of(harness: Harness, fingerprint: str, names: Iterable[str]) -> list[str]:
    """Those of the streams that the session still has, in the same order."""
    return [name for name in names if await harness.store.run(streams.keep([(fingerprint, name)]))]


async def test_the_newest_ended_streams_are_kept_and_all_that_still_run(
    harness: Harness,
) -> None:
    fingerprint = await harness.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in [*names, "f" * 16]:
        await harness.store.run(
            streams.open_stream(fingerprint, name, node="a", request_id="7", limits=harness.stream_limits)
        )
    for name in names:
        await harness.append(fingerprint, b"response", last=True, stream=name)
        await harness.store.run(streams.finish(fingerprint, name, kept=2, kept_bytes=1000, ttl_ms=300_000))

    assert await kept_of(harness, fingerprint, [*names, "f" * 16]) == [*names[3:], "f" * 16]


async def test_fewer_ended_streams_are_kept_if_they_are_large(harness: Harness) -> None:
    fingerprint = await harness.open()
    names = [f"{number:016x}" for number in range(5)]
    for name in names:
        await harness.store.run(
            streams.open_stream(fingerprint, name, node="a", request_id="7", limits=harness.stream_limits)
        )
        await harness.append(fingerprint, b"x" * 50, last=True, stream=name)
        for _ in range(2):
            await harness.store.run(
                streams.finish(fingerprint, name, kept=100, kept_bytes=100, ttl_ms=300_000)
            )

    assert await kept_of(harness, fingerprint, names) == names[3:]


async def test_a_session_that_is_over_leaves_no_ended_stream(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000, ttl_ms=300_000))
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await harness.store.run(streams.forget([fingerprint]))
    await harness.store.run(streams.finish(fingerprint, EXCHANGE, kept=16, kept_bytes=1000, ttl_ms=300_000))

    assert (
        await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0, ttl_ms=300_000))
        is None
    )
