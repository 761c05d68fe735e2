"""A Redis that is down, hung, full, loading or read-only is StoreUnavailable, soon; and all is well when it is back."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.base import Query
from tests.store import worlds
from tests.store.conftest import disconnect
from tests.store.worlds import CLAUDE, World, a_fingerprint
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
async def world(server: RedisServer, settings: Settings) -> AsyncIterator[World]:
    entry = worlds.standalone_cache(server)
    settings.CACHES = {
        "default": {**entry, "OPTIONS": {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}}
    }
    made = worlds.redis_world("standalone")
    yield made
    await made.aclose()
    disconnect()


def everything(world: World, fingerprint: str) -> dict[str, Callable[[], Any]]:
    """Each method of both faces."""
    store, directory, limits = world.store, world.directory, world.limits
    return {
        "create": lambda: store.create(
            a_fingerprint(), principal="anonymous", handshake=CLAUDE, limits=limits
        ),
        "touch": lambda: world.touch(fingerprint),
        "keep": lambda: store.keep([fingerprint], limits=limits),
        "get": lambda: store.get(fingerprint),
        "end": lambda: store.end(fingerprint, principal=None, reason="deleted"),
        "set_log_level": lambda: store.set_log_level(fingerprint, "debug"),
        "change_tools": lambda: store.change_tools(fingerprint, enable=["a"]),
        "state_get": lambda: store.state_get(fingerprint, ["a"]),
        "state_set": lambda: store.state_set(fingerprint, {"a": "1"}, max_bytes=100),
        "state_delete": lambda: store.state_delete(fingerprint, ["a"]),
        "state_incr": lambda: store.state_incr(fingerprint, "a", 1, max_bytes=100),
        "state_append": lambda: store.state_append(fingerprint, "a", "1", max_bytes=100),
        "state_names": lambda: store.state_names(fingerprint),
        "directory.page": lambda: directory.page(Query(), offset=0, limit=1),
        "directory.get": lambda: directory.get(fingerprint),
        "directory.find": lambda: directory.find(fingerprint, limit=1),
        "directory.count": lambda: directory.count(),
        "directory.clients": lambda: directory.clients(),
        "directory.state": lambda: directory.state(fingerprint),
        "directory.end": lambda: directory.end(fingerprint),
        "directory.ping": lambda: directory.ping(),
    }


async def outcome(method: Callable[[], Any]) -> tuple[Any, float]:
    """What the method gave, or StoreUnavailable, and after how many seconds. Any other error is a failure."""
    begun = time.monotonic()
    try:
        result = method()
        if asyncio.iscoroutine(result):
            result = await result
    except StoreUnavailable as error:
        result = error
    return result, time.monotonic() - begun


async def assert_unavailable(world: World, fingerprint: str) -> None:
    for name, method in everything(world, fingerprint).items():
        result, seconds = await outcome(method)
        assert isinstance(result, StoreUnavailable), (name, result)
        assert seconds < BOUND, name


async def assert_well(world: World, fingerprint: str) -> None:
    assert await world.touch(fingerprint) is not None
    assert world.directory.get(fingerprint) is not None
    await world.open()


async def test_a_server_that_is_down_is_unavailable_and_sessions_are_there_after_its_restart(
    world: World, server: RedisServer
) -> None:
    fingerprint = await world.open()
    world.directory.ping()

    server.stop()
    await assert_unavailable(world, fingerprint)
    server.start()

    await assert_well(world, fingerprint)


async def test_a_restart_between_two_requests_is_not_even_noticed(world: World, server: RedisServer) -> None:
    fingerprint = await world.open()
    world.directory.ping()

    server.stop()
    server.start()

    await assert_well(world, fingerprint)


async def test_a_hung_server_is_unavailable_within_the_timeout_and_recovers(
    world: World, server: RedisServer
) -> None:
    fingerprint = await world.open()
    world.directory.ping()

    server.pause()
    try:
        await assert_unavailable(world, fingerprint)
    finally:
        server.resume()

    await assert_well(world, fingerprint)


async def test_a_hundred_requests_on_a_hung_server_all_fail_soon(world: World, server: RedisServer) -> None:
    opened = [await world.open() for _ in range(10)]
    server.pause()
    begun = time.monotonic()
    try:
        results = await asyncio.gather(*[world.touch(each) for each in opened * 10], return_exceptions=True)
    finally:
        server.resume()

    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert time.monotonic() - begun < BOUND
    for fingerprint in opened:
        assert await world.touch(fingerprint) is not None


async def test_a_touch_that_is_cancelled_costs_its_neighbours_nothing(
    world: World, server: RedisServer
) -> None:
    one, other = await world.open(), await world.open()
    server.pause()
    try:
        cancelled, kept = asyncio.create_task(world.touch(one)), asyncio.create_task(world.touch(other))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
    finally:
        server.resume()

    assert cancelled.cancelled()
    assert await kept is not None


async def test_a_server_that_is_killed_in_the_middle_is_unavailable(
    world: World, server: RedisServer
) -> None:
    fingerprint = await world.open()
    server.pause()
    waiting = asyncio.create_task(world.store.end(fingerprint, principal=None, reason="deleted"))
    await asyncio.sleep(0)

    server.stop(signal.SIGKILL)

    result, seconds = await outcome(lambda: waiting_for(waiting))
    assert isinstance(result, StoreUnavailable)
    assert seconds < BOUND


async def waiting_for(task: asyncio.Task[Any]) -> Any:
    return await task


async def test_a_server_that_is_full_is_unavailable_for_what_needs_memory(
    world: World, server: RedisServer
) -> None:
    fingerprint = await world.open()
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)

        with pytest.raises(StoreUnavailable, match="memory"):
            await world.touch(fingerprint)
        with pytest.raises(StoreUnavailable, match="memory"):
            await world.store.state_incr(fingerprint, "count", 1, max_bytes=100)
        with pytest.raises(StoreUnavailable, match="memory"):
            await world.open()

        client.config_set("maxmemory", 0)
    await assert_well(world, fingerprint)


async def test_a_server_that_became_a_replica_is_unavailable(world: World, server: RedisServer) -> None:
    fingerprint = await world.open()
    with server.client() as client:
        client.replicaof(HOST, free_port())

        with pytest.raises(StoreUnavailable):
            await world.touch(fingerprint)
        with pytest.raises(StoreUnavailable):
            await world.store.state_incr(fingerprint, "count", 1, max_bytes=100)
        with pytest.raises(StoreUnavailable):
            world.directory.end(fingerprint)

        client.replicaof("NO", "ONE")
    await assert_well(world, fingerprint)


async def test_scripts_that_redis_forgot_are_sent_again(world: World, server: RedisServer) -> None:
    opened = [await world.open() for _ in range(5)]
    with server.client() as client:
        client.script_flush()

    touched = await asyncio.gather(*[world.touch(each) for each in opened])

    assert [session.requests for session in touched if session] == [2] * 5
    with server.client() as client:
        client.script_flush()
    assert world.directory.page(Query(), offset=0, limit=10).total == 5


async def test_a_server_that_wants_a_password_is_unavailable(world: World, server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", "secret")

    fingerprint = a_fingerprint()
    for method in (lambda: world.touch(fingerprint), lambda: world.directory.get(fingerprint)):
        result, _ = await outcome(method)
        assert isinstance(result, StoreUnavailable)
        assert "secret" not in str(result)


async def test_an_end_whose_indexes_cannot_be_reached_is_an_end(world: World, server: RedisServer) -> None:
    """The record decides; the indexes heal."""
    fingerprint = await world.open()
    await world.settled()
    assert world.commands is not None
    with server.client() as client:
        client.rename(world.commands.keys.activity, "elsewhere")
        client.set(world.commands.keys.activity, "of another type", px=60_000)

        assert world.directory.end(fingerprint) is not None
        assert await world.touch(fingerprint) is None

        client.rename("elsewhere", world.commands.keys.activity)
    assert world.directory.page(Query(), offset=0, limit=10).total == 0


async def test_a_creation_that_fails_gives_its_place_back(world: World, server: RedisServer) -> None:
    """Redis may be asked about the indexes, not about sessions: the second step of a creation fails."""
    world.limit(max_sessions=1)
    fingerprint = a_fingerprint()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~:1:mcp:v1:{*")
        with pytest.raises(StoreUnavailable, match="NoPermission"):
            await world.open(fingerprint=fingerprint)
        client.execute_command("ACL", "SETUSER", "default", "allkeys")

    assert world.directory.count() == 0
    assert await world.open(fingerprint=fingerprint) == fingerprint
