"""Streams, questions and doorbells while Redis is down, hung, restarted, or has lost its data."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.listener import MARGIN
from mcp_sessions.store.streaming import STANDALONE
from tests.store import worlds
from tests.store.conftest import disconnect
from tests.store.stream_worlds import EXCHANGE, Streams, streams_of
from tests.store.worlds import MINUTE
from tests.support.processes import wait_until
from tests.support.redis import RedisServer, run_server

#: Seconds: the socket timeout of these tests, and what an answer may take on two slow cores that others use too.
TIMEOUT, BOUND = 0.25, 5.0
LONG = 20_000


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, with its data on disk."""
    with run_server("--appendfsync", "always", keep=True) as running:
        yield running


@pytest.fixture
async def streams(server: RedisServer, settings: Settings) -> AsyncIterator[Streams]:
    options = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}
    settings.CACHES = {"default": {**worlds.standalone_cache(server), "OPTIONS": options}}
    world = worlds.redis_world("standalone")
    made = streams_of(world)
    yield made
    await made.aclose()
    await world.aclose()
    disconnect()


def everything(streams: Streams, fingerprint: str) -> dict[str, Callable[[], Any]]:
    """Each method of both faces."""
    store, directory, limits = streams.store, streams.directory, streams.limits
    return {
        "open_stream": lambda: store.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits),
        "append": lambda: streams.append(fingerprint, b"one"),
        "publish": lambda: streams.publish(fingerprint, b"one"),
        "claim": lambda: store.claim(fingerprint, EXCHANGE, node="a", after=0),
        "read": lambda: store.read(fingerprint, EXCHANGE, token=1, after=0, max_bytes=9),
        "close_orphan": lambda: store.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=limits),
        "keep_streams": lambda: store.keep_streams([(fingerprint, EXCHANGE)]),
        "ask": lambda: store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE),
        "answer": lambda: store.answer(fingerprint, "q1", payload=b"yes"),
        "progress": lambda: store.progress(fingerprint, "q1", payload=b"1"),
        "replies": lambda: store.replies(fingerprint, "q1", after=0),
        "withdraw": lambda: store.withdraw(fingerprint, "q1"),
        "subscribe": lambda: store.subscribe(fingerprint, "book://1", max_subscriptions=9),
        "unsubscribe": lambda: store.unsubscribe(fingerprint, "book://1"),
        "subscribed": lambda: store.subscribed([fingerprint], "book://1"),
        "beat": lambda: store.beat("a", about="{}", forget_after_ms=MINUTE),
        "leave": lambda: store.leave("b"),
        "nodes": store.nodes,
        "ring": lambda: store.ring({"a": [b"ding"]}),
        "ring_all": lambda: store.ring_all(b"ding"),
        "post": lambda: store.post(b"hear"),
        "notices": lambda: store.notices(after=""),
        "listen": lambda: store.listen("a", after="", block_ms=1),
        "directory.publish": lambda: directory.publish(
            fingerprint, payloads=[b"one"], key="k", limits=limits
        ),
        "directory.ring": lambda: directory.ring({"a": [b"ding"]}),
        "directory.ring_all": lambda: directory.ring_all(b"ding"),
        "directory.post": lambda: directory.post(b"hear"),
        "directory.nodes": directory.nodes,
    }


async def assert_unavailable(streams: Streams, fingerprint: str) -> None:
    for name, method in everything(streams, fingerprint).items():
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await called(method)
        assert time.monotonic() - begun < BOUND, name


async def called(method: Callable[[], Any]) -> Any:
    result = method()
    return await result if isinstance(result, Awaitable) else result


async def rung(streams: Streams, after: str) -> list[bytes]:
    """What node a hears next."""
    _, doorbells = await streams.store.listen("a", after=after, block_ms=LONG)
    return list(doorbells)


async def listening(streams: Streams) -> str:
    """Node a is known and listens; where it goes on."""
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    after, _ = await streams.store.listen("a", after="", block_ms=1)
    return after


async def test_a_server_that_is_down_is_unavailable_and_nothing_is_lost_after_its_restart(
    streams: Streams, server: RedisServer
) -> None:
    fingerprint, after = await streams.exchange(), await listening(streams)
    await streams.append(fingerprint, b"one")
    await streams.publish(fingerprint, b"two", key="job")
    await streams.store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE)
    await streams.store.ring({"a": [b"ding"]})

    server.stop(signal.SIGKILL)
    await assert_unavailable(streams, fingerprint)
    server.start()

    assert await rung(streams, after) == [b"ding"]
    await streams.append(fingerprint, b"three", first=2, last=True)
    await streams.publish(fingerprint, b"not again", key="job")
    assert await streams.kept(fingerprint) == [(1, b"one"), (2, b"three")]
    assert await streams.kept(fingerprint, stream=STANDALONE) == [(1, b"two")]
    assert await streams.store.answer(fingerprint, "q1", payload=b"yes") == "a"


async def test_a_hung_server_is_unavailable_and_recovers(streams: Streams, server: RedisServer) -> None:
    fingerprint = await streams.exchange()
    await listening(streams)

    server.pause()
    try:
        await assert_unavailable(streams, fingerprint)
    finally:
        server.resume()

    assert await streams.append(fingerprint, b"one")


async def test_who_listens_notices_a_hung_server_shortly_after_the_time_to_wait(
    streams: Streams, server: RedisServer
) -> None:
    after = await listening(streams)
    server.pause()
    begun = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            await streams.store.listen("a", after=after, block_ms=100)
    finally:
        server.resume()

    assert MARGIN <= time.monotonic() - begun < MARGIN + BOUND


async def test_who_waits_for_longer_than_the_socket_timeout_is_not_cut_off(streams: Streams) -> None:
    after = await listening(streams)
    begun = time.monotonic()

    _, doorbells = await streams.store.listen("a", after=after, block_ms=round(3000 * TIMEOUT))

    assert list(doorbells) == []
    assert time.monotonic() - begun >= 2.5 * TIMEOUT


async def test_a_restart_ends_the_waiting_and_what_comes_then_is_heard(
    streams: Streams, server: RedisServer
) -> None:
    after = await listening(streams)
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)

    server.stop(signal.SIGKILL)
    with pytest.raises(StoreUnavailable):
        await waiting
    server.start()
    await streams.other.ring({"a": [b"ding"]})

    assert await rung(streams, after) == [b"ding"]


async def test_who_listens_survives_the_loss_of_the_scripts(streams: Streams, server: RedisServer) -> None:
    after = await listening(streams)
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)
    with server.client() as redis:
        redis.script_flush()

    await streams.other.ring({"a": [b"ding"]})

    _, doorbells = await waiting
    assert list(doorbells) == [b"ding"]


async def test_a_server_that_lost_its_data_is_listened_to_from_the_beginning(
    streams: Streams, server: RedisServer
) -> None:
    """Its clock may be behind: its new doorbells may have ids below those that were heard."""
    await listening(streams)
    ahead = f"{2**45}-0"
    with server.client() as redis:
        redis.flushall()
    assert await cut(streams, server, after=ahead)
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    await streams.other.ring({"a": [b"ding"]})

    assert await rung(streams, ahead) == [b"ding"]


async def test_an_inbox_that_is_gone_is_listened_to_from_the_beginning(
    streams: Streams, server: RedisServer
) -> None:
    await listening(streams)
    ahead = f"{2**45}-0"
    assert await cut(streams, server, after=ahead)
    waiting = asyncio.create_task(streams.store.listen("a", after=ahead, block_ms=LONG))
    await blocked(server)

    await streams.other.ring({"a": [b"ding"]})

    _, doorbells = await waiting
    assert list(doorbells) == [b"ding"]


async def cut(streams: Streams, server: RedisServer, *, after: str) -> bool:
    """Break the connection of a node that waits; whether it noticed."""
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)
    with server.client() as redis:
        redis.client_kill_filter(_type="normal", skipme=True)
    [outcome] = await asyncio.gather(waiting, return_exceptions=True)
    return isinstance(outcome, StoreUnavailable)


async def blocked(server: RedisServer) -> None:
    """Wait until somebody waits in the server."""
    with server.client() as redis:
        await asyncio.to_thread(wait_until, lambda: redis.info("clients")["blocked_clients"], seconds=BOUND)
