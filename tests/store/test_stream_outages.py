"""Streams, client requests and notifications while Redis is down, hung, restarted, or has lost its data."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.connections.listener import MARGIN
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes, requests, streams, subscriptions
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import EXCHANGE, FIRST, MINUTE, Harness, harness_on
from tests.support.caches import standalone_cache, with_timeouts
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
async def harness(server: RedisServer, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(with_timeouts(standalone_cache(server), TIMEOUT), settings) as made:
        yield made


def everything(harness: Harness, fingerprint: str) -> dict[str, Callable[[], Any]]:
    """Every call on streams, requests and nodes."""
    limits = harness.stream_limits
    return {
        "open_stream": lambda: streams.open_stream(
            fingerprint, "ff", node="a", request_id="8", limits=limits
        ),
        "append": lambda: streams.append(
            fingerprint, EXCHANGE, node="a", first=1, payloads=[b"one"], last=False, limits=limits
        ),
        "publish": lambda: streams.publish(fingerprint, payloads=[b"one"], key="k", limits=limits),
        "claim": lambda: streams.claim(fingerprint, EXCHANGE, node="a", after=0, ttl_ms=300_000),
        "read": lambda: streams.read(
            fingerprint, EXCHANGE, claim=Claim(node="b", token=1), after=0, max_bytes=9
        ),
        "release": lambda: streams.release(fingerprint, token=1),
        "rerun": lambda: streams.rerun(fingerprint, EXCHANGE, dead="a", node="b", most=1),
        "close_orphan": lambda: streams.close_orphan(
            fingerprint, EXCHANGE, origin="a", after=0, payload=b"lost", limits=limits
        ),
        "keep": lambda: streams.keep([(fingerprint, EXCHANGE)]),
        "finish": lambda: streams.finish(fingerprint, EXCHANGE, kept=1, kept_bytes=1, ttl_ms=300_000),
        "forget": lambda: streams.forget([fingerprint]),
        "subscribe": lambda: subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=9),
        "unsubscribe": lambda: subscriptions.unsubscribe(fingerprint, "book://1"),
        "subscribed": lambda: subscriptions.subscribed([fingerprint], "book://1"),
        "register": lambda: requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE),
        "answer": lambda: requests.answer(fingerprint, "q1", payload=b"yes"),
        "progress": lambda: requests.progress(fingerprint, "q1", payload=b"1"),
        "replies": lambda: requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE),
        "withdraw": lambda: requests.withdraw(fingerprint, "q1", kept_ms=MINUTE),
        "refuse": lambda: requests.refuse(fingerprint, "q1"),
        "beat": lambda: nodes.beat("a", about="{}", forget_after_ms=MINUTE),
        "leave": lambda: nodes.leave("b"),
        "list_nodes": nodes.list_nodes,
        "notify": lambda: nodes.notify({"a": [b"ding"]}),
        "notify_all": lambda: nodes.notify_all(b"ding"),
        "broadcast": lambda: nodes.broadcast(b"hear"),
        "broadcasts": lambda: nodes.broadcasts(after=""),
    }


async def assert_unavailable(harness: Harness, fingerprint: str) -> None:
    """For every call, in an event loop and in a thread, and for a node that listens."""
    acts: list[tuple[str, Awaitable[Any]]] = [("listen", harness.store.listen("a", after="0-0", block_ms=1))]
    for name, call in everything(harness, fingerprint).items():
        acts += [(name, harness.store.run(call())), (name, asyncio.to_thread(harness.sync.run, call()))]
    for name, act in acts:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await act
        assert time.monotonic() - begun < BOUND, name


async def heard(harness: Harness, after: str) -> list[bytes]:
    """What node a hears next."""
    _, notifications = await harness.store.listen("a", after=after, block_ms=LONG)
    return list(notifications)


async def listening(harness: Harness) -> str:
    """Register node a and let it listen once; the position after which it reads on."""
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    after, _ = await harness.store.listen("a", after="0-0", block_ms=1)
    return after


async def test_a_server_that_is_down_is_unavailable_and_nothing_is_lost_after_its_restart(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint, after = await harness.exchange(), await listening(harness)
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two", key="job")
    await harness.store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE))
    await harness.store.run(nodes.notify({"a": [b"ding"]}))

    server.stop(signal.SIGKILL)
    await assert_unavailable(harness, fingerprint)
    server.start()

    assert await heard(harness, after) == [b"ding"]
    await harness.append(fingerprint, b"three", first=2, last=True)
    await harness.publish(fingerprint, b"not again", key="job")
    assert await harness.kept(fingerprint) == [(1, b"one"), (2, b"three")]
    assert await harness.kept(fingerprint, stream=STANDALONE) == [(FIRST, b"two")]
    assert await harness.store.run(requests.answer(fingerprint, "q1", payload=b"yes")) == "a"


async def test_what_a_node_has_heard_before_a_restart_is_not_heard_again(
    harness: Harness, server: RedisServer
) -> None:
    after = await listening(harness)
    await harness.store.run(nodes.notify({"a": [b"ding"]}))
    after, _ = await harness.store.listen("a", after=after, block_ms=LONG)

    server.stop(signal.SIGKILL)
    with pytest.raises(StoreUnavailable):
        await harness.store.listen("a", after=after, block_ms=1)
    server.start()

    assert await harness.store.listen("a", after=after, block_ms=1) == (after, [])
    await harness.recovered()
    await harness.store.run(nodes.notify({"a": [b"dong"]}))
    assert await heard(harness, after) == [b"dong"]


async def test_a_hung_server_is_unavailable_and_recovers(harness: Harness, server: RedisServer) -> None:
    fingerprint = await harness.exchange()
    await listening(harness)

    server.pause()
    try:
        await assert_unavailable(harness, fingerprint)
    finally:
        server.resume()

    await harness.recovered()
    assert await harness.append(fingerprint, b"one")


async def test_a_listener_notices_a_hung_server_shortly_after_the_time_to_wait(
    harness: Harness, server: RedisServer
) -> None:
    after = await listening(harness)
    server.pause()
    begun = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            await harness.store.listen("a", after=after, block_ms=100)
    finally:
        server.resume()

    assert MARGIN <= time.monotonic() - begun < MARGIN + BOUND


async def test_a_listener_that_waits_longer_than_the_socket_timeout_is_not_cut_off(harness: Harness) -> None:
    after = await listening(harness)
    begun = time.monotonic()

    _, notifications = await harness.store.listen("a", after=after, block_ms=round(3000 * TIMEOUT))

    assert list(notifications) == []
    assert time.monotonic() - begun >= 2.5 * TIMEOUT


async def test_a_restart_ends_the_waiting_and_what_comes_then_is_heard(
    harness: Harness, server: RedisServer
) -> None:
    after = await listening(harness)
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)

    server.stop(signal.SIGKILL)
    with pytest.raises(StoreUnavailable):
        await waiting
    server.start()
    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    assert await heard(harness, after) == [b"ding"]


async def test_a_listener_survives_the_loss_of_the_scripts(harness: Harness, server: RedisServer) -> None:
    after = await listening(harness)
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)
    with server.client() as redis:
        redis.script_flush()

    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    _, notifications = await waiting
    assert list(notifications) == [b"ding"]


async def test_a_server_that_lost_its_data_is_listened_to_from_the_beginning(
    harness: Harness, server: RedisServer
) -> None:
    """Its clock may be behind: its new notifications may have ids below those that were heard."""
    await listening(harness)
    ahead = f"{2**45}-0"
    with server.client() as redis:
        redis.flushall()
    waiting = await cut(harness, server, after=ahead)
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    _, notifications = await waiting
    assert list(notifications) == [b"ding"]


async def test_an_inbox_that_is_gone_is_listened_to_from_the_beginning(
    harness: Harness, server: RedisServer
) -> None:
    await listening(harness)
    waiting = await cut(harness, server, after=f"{2**45}-0")

    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    _, notifications = await waiting
    assert list(notifications) == [b"ding"]


async def test_a_listener_does_not_notice_that_redis_closed_the_connection(
    harness: Harness, server: RedisServer
) -> None:
    after = await listening(harness)
    disconnect_all(server)
    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    assert await heard(harness, after) == [b"ding"]


async def cut(harness: Harness, server: RedisServer, *, after: str) -> "asyncio.Task[Any]":
    """A node that waits again after its connection broke."""
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await blocked(server)
    disconnect_all(server)
    await blocked(server)
    return waiting


def disconnect_all(server: RedisServer) -> None:
    with server.client() as redis:
        redis.client_kill_filter(_type="normal", skipme=True)


async def blocked(server: RedisServer) -> None:
    """Wait until somebody waits in the server."""
    with server.client() as redis:
        await asyncio.to_thread(wait_until, lambda: redis.info("clients")["blocked_clients"], seconds=BOUND)
