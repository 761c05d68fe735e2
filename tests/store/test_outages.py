"""A Redis that is down, hung, full, loading or read-only: StoreUnavailable soon, and recovery when it is back."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import indexes, nodes, queries, sessions, state
from mcp_sessions.store.calls.queries import Query
from tests.store.harness import CLAUDE, Harness, a_fingerprint, harness_on
from tests.support.caches import standalone_cache, with_timeouts
from tests.support.processes import HOST, free_port
from tests.support.redis import RedisServer, run_server

#: Seconds: the socket timeout of these tests, and what an answer may take on two slow cores that others use too.
TIMEOUT, BOUND = 0.25, 5.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, with its data on disk."""
    with run_server(keep=True) as running:
        yield running


@pytest.fixture
async def harness(server: RedisServer, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(with_timeouts(standalone_cache(server), TIMEOUT), settings) as made:
        yield made


def everything(harness: Harness, fingerprint: str) -> dict[str, Callable[[], Any]]:
    """Every call on sessions."""
    limits = harness.limits
    return {
        "create": lambda: sessions.create(
            a_fingerprint(), principal="anonymous", handshake=CLAUDE, limits=limits
        ),
        "touch": lambda: sessions.touch(fingerprint, principal="anonymous", limits=limits),
        "keep": lambda: sessions.keep([fingerprint], limits=limits),
        "get": lambda: sessions.get(fingerprint),
        "end": lambda: sessions.end(fingerprint, principal=None, reason="deleted"),
        "set_log_level": lambda: sessions.set_log_level(fingerprint, "debug"),
        "change_tools": lambda: sessions.change_tools(fingerprint, enable=["a"]),
        "state.get": lambda: state.get(fingerprint, ["a"]),
        "state.set_values": lambda: state.set_values(fingerprint, {"a": "1"}, max_bytes=100),
        "state.delete": lambda: state.delete(fingerprint, ["a"]),
        "state.incr": lambda: state.incr(fingerprint, "a", 1, max_bytes=100),
        "state.append": lambda: state.append(fingerprint, "a", "1", max_bytes=100),
        "state.names": lambda: state.names(fingerprint),
        "state.items": lambda: state.items(fingerprint),
        "page": lambda: queries.page(Query(), limits=limits, offset=0, limit=1),
        "find": lambda: queries.find(fingerprint, limits=limits, limit=1),
        "count": lambda: indexes.count(limits=limits),
        "clients": lambda: indexes.clients(limits=limits),
    }


async def outcome(act: Awaitable[Any]) -> tuple[Any, float]:
    """The result, or StoreUnavailable, and the seconds that it took. Any other error is a failure."""
    begun = time.monotonic()
    try:
        result = await act
    except StoreUnavailable as error:
        result = error
    return result, time.monotonic() - begun


async def assert_unavailable(harness: Harness, fingerprint: str) -> None:
    """For every call, in an event loop and in a thread."""
    for name, call in everything(harness, fingerprint).items():
        for act in (harness.store.run(call()), asyncio.to_thread(harness.sync.run, call())):
            result, seconds = await outcome(act)
            assert isinstance(result, StoreUnavailable), (name, result)
            assert seconds < BOUND, name


async def assert_well(harness: Harness, fingerprint: str) -> None:
    assert await harness.touch(fingerprint) is not None
    assert harness.sync.run(sessions.get(fingerprint)) is not None
    await harness.open()


async def test_a_server_that_is_down_is_unavailable_and_sessions_are_there_after_its_restart(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint = await harness.open()
    harness.sync.run(nodes.list_nodes())

    server.stop()
    await assert_unavailable(harness, fingerprint)
    server.start()

    await assert_well(harness, fingerprint)


async def test_a_restart_between_two_requests_is_not_even_noticed(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint = await harness.open()
    harness.sync.run(nodes.list_nodes())

    server.stop()
    server.start()

    await assert_well(harness, fingerprint)


async def test_a_hung_server_is_unavailable_within_the_timeout_and_recovers(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint = await harness.open()
    harness.sync.run(nodes.list_nodes())

    server.pause()
    try:
        await assert_unavailable(harness, fingerprint)
    finally:
        server.resume()

    await harness.recovered()
    await assert_well(harness, fingerprint)


async def test_a_hundred_requests_on_a_hung_server_all_fail_soon(
    harness: Harness, server: RedisServer
) -> None:
    opened = [await harness.open() for _ in range(10)]
    server.pause()
    begun = time.monotonic()
    try:
        results = await asyncio.gather(*[harness.touch(each) for each in opened * 10], return_exceptions=True)
    finally:
        server.resume()

    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert time.monotonic() - begun < BOUND
    await harness.recovered()
    for fingerprint in opened:
        assert await harness.touch(fingerprint) is not None


async def test_a_touch_that_is_cancelled_costs_its_neighbours_nothing(
    harness: Harness, server: RedisServer
) -> None:
    one, other = await harness.open(), await harness.open()
    server.pause()
    try:
        cancelled, kept = asyncio.create_task(harness.touch(one)), asyncio.create_task(harness.touch(other))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
    finally:
        server.resume()

    assert cancelled.cancelled()
    assert await kept is not None


async def test_a_server_that_is_killed_in_the_middle_is_unavailable(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint = await harness.open()
    server.pause()
    waiting = asyncio.create_task(
        harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
    )
    await asyncio.sleep(0)

    server.stop(signal.SIGKILL)

    result, seconds = await outcome(waiting)
    assert isinstance(result, StoreUnavailable)
    assert seconds < BOUND


async def test_a_server_that_is_full_is_unavailable_for_what_needs_memory(
    harness: Harness, server: RedisServer
) -> None:
    fingerprint = await harness.open()
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)

        with pytest.raises(StoreUnavailable, match="memory"):
            await harness.touch(fingerprint)
        with pytest.raises(StoreUnavailable, match="memory"):
            await harness.store.run(state.incr(fingerprint, "count", 1, max_bytes=100))
        with pytest.raises(StoreUnavailable, match="memory"):
            await harness.open()

        client.config_set("maxmemory", 0)
    await assert_well(harness, fingerprint)


async def test_a_server_that_became_a_replica_is_unavailable(harness: Harness, server: RedisServer) -> None:
    fingerprint = await harness.open()
    with server.client() as client:
        client.replicaof(HOST, free_port())

        with pytest.raises(StoreUnavailable):
            await harness.touch(fingerprint)
        with pytest.raises(StoreUnavailable):
            await harness.store.run(state.incr(fingerprint, "count", 1, max_bytes=100))
        with pytest.raises(StoreUnavailable):
            harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))

        client.replicaof("NO", "ONE")
    await assert_well(harness, fingerprint)


async def test_scripts_that_redis_forgot_are_sent_again(harness: Harness, server: RedisServer) -> None:
    opened = [await harness.open() for _ in range(5)]
    with server.client() as client:
        client.script_flush()

    touched = await asyncio.gather(*[harness.touch(each) for each in opened])

    assert [session.requests for session in touched if session] == [2] * 5
    with server.client() as client:
        client.script_flush()
    assert harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits)).total == 5


async def test_a_server_that_wants_a_password_is_unavailable(harness: Harness, server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", "secret")

    fingerprint = a_fingerprint()
    for act in (harness.touch(fingerprint), asyncio.to_thread(harness.sync.run, sessions.get(fingerprint))):
        result, _ = await outcome(act)
        assert isinstance(result, StoreUnavailable)
        assert "secret" not in str(result)


async def test_a_session_ends_although_its_indexes_cannot_be_reached(
    harness: Harness, server: RedisServer
) -> None:
    """The record decides, and the indexes are corrected later."""
    fingerprint = await harness.open()
    await harness.settled()
    with server.client() as client:
        client.rename(harness.key("", "index:activity"), "elsewhere")
        client.set(harness.key("", "index:activity"), "of another type", px=60_000)

        assert (
            harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
            is not None
        )
        assert await harness.touch(fingerprint) is None

        client.rename("elsewhere", harness.key("", "index:activity"))
    assert harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits)).total == 0


async def test_a_creation_that_fails_gives_its_place_back(harness: Harness, server: RedisServer) -> None:
    """Redis may be asked about the indexes, not about sessions: the second step of a creation fails."""
    harness.limit(max_sessions=1)
    fingerprint = a_fingerprint()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~:1:mcp:v1:{*")
        with pytest.raises(StoreUnavailable, match="NoPermission"):
            await harness.open(fingerprint=fingerprint)
        client.execute_command("ACL", "SETUSER", "default", "allkeys")

    assert harness.sync.run(indexes.count(limits=harness.limits)) == 0
    assert await harness.open(fingerprint=fingerprint) == fingerprint
