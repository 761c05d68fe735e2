"""Many processes on one session at the same moment: whatever the order, an ended session stays ended."""

import asyncio
import itertools
import multiprocessing
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_sessions.errors import SessionGone
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import indexes, queries, sessions, state
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.clients import make_async_client
from mcp_sessions.store.drivers.asynchronous import RedisStore
from mcp_sessions.store.keys import Keys
from tests.store.harness import CLAUDE, LIMITS, a_fingerprint, embedded_harness, redis_harness
from tests.support.redis import RedisServer

Act = Callable[[RedisStore, str], Coroutine[Any, Any, Any]]

ACTS: dict[str, Act] = {
    "touch": lambda store, f: store.run(
        sessions.touch(f, principal=ANONYMOUS, limits=LIMITS, call="ping", initialized=True)
    ),
    "keep": lambda store, f: store.run(sessions.keep([f], limits=LIMITS)),
    "set_log_level": lambda store, f: store.run(sessions.set_log_level(f, "debug")),
    "change_tools": lambda store, f: store.run(sessions.change_tools(f, enable=["a"], disable=["b"])),
    "state_set": lambda store, f: store.run(state.set_values(f, {"a": "1"}, max_bytes=1_000)),
    "state_incr": lambda store, f: store.run(state.incr(f, "n", 1, max_bytes=1_000)),
    "state_append": lambda store, f: store.run(state.append(f, "l", "1", max_bytes=1_000)),
    "state_delete": lambda store, f: store.run(state.delete(f, ["a"])),
    "create": lambda store, f: store.run(
        sessions.create(f, principal=ANONYMOUS, handshake=CLAUDE, limits=LIMITS)
    ),
}


async def act(store: Any, name: str, fingerprint: str) -> str:
    """Run an act; its outcome in a word."""
    try:
        result = await ACTS[name](store, fingerprint)
    except SessionGone:
        return "gone"
    except ValueError:
        return "refused"
    gone = (
        result is False or result == frozenset() or result == {} or (result is None and name != "state_set")
    )
    return "gone" if gone else "done"


def a_process(namespace: str) -> RedisStore:
    """A store as of a process of its own."""
    keys = Keys(namespace, lambda key: ":1:" + key)
    return RedisStore(keys, lambda timeout: make_async_client("default", socket_timeout=timeout))


@asynccontextmanager
async def open_processes(namespace: str, count: int) -> AsyncIterator[list[RedisStore]]:
    """Stores as of that many processes: each with a connection of its own."""
    stores = [a_process(namespace) for _ in range(count)]
    yield stores
    for store in stores:
        await store.aclose()


def keys_of(redis: Any, fingerprint: str) -> list[str]:
    return sorted(key.decode().rsplit(":", 1)[1] for key in redis.scan_iter(f"*{fingerprint}*"))


@pytest.mark.usefixtures("redis_caches")
@pytest.mark.parametrize("first", sorted(ACTS))
@pytest.mark.parametrize("order", ["before", "after"])
async def test_no_act_brings_a_session_back_in_either_order(
    redis_server: RedisServer, first: str, order: str
) -> None:
    """A pair of atomic acts can have two orders; each is tried on purpose."""
    async with open_processes("races", 2) as (one, two):
        fingerprint = a_fingerprint()
        await one.run(sessions.create(fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=LIMITS))
        if order == "before":
            outcome = await act(one, first, fingerprint)
            assert outcome == ("refused" if first == "create" else "done")
        assert await two.run(sessions.end(fingerprint, principal=None, reason="deleted")) is not None
        if order == "after":
            outcome = await act(one, first, fingerprint)
            assert outcome == ("refused" if first == "create" else "gone")

    with redis_server.client() as redis:
        assert keys_of(redis, fingerprint) == ["ended", "ended-record"]


@pytest.mark.usefixtures("redis_caches")
async def test_whatever_the_interleaving_an_end_is_final(redis_server: RedisServer) -> None:
    """Both outcomes of each act must occur, or the acts did not really race with the end."""
    seen: set[tuple[str, str]] = set()
    names = sorted(ACTS)
    numbers = random.Random(2)  # noqa: S311 - an order, not a secret
    wanted = set(itertools.product([name for name in names if name != "create"], ["done", "gone"]))
    async with open_processes("races", 4) as stores:
        for round_ in itertools.count():
            fingerprint = a_fingerprint()
            await stores[0].run(
                sessions.create(fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=LIMITS)
            )
            racing = [(numbers.choice(stores), name) for name in names for _ in range(3)]
            numbers.shuffle(racing)
            place = numbers.randrange(len(racing))
            tasks: list[Any] = [act(store, name, fingerprint) for store, name in racing]
            tasks.insert(place, stores[3].run(sessions.end(fingerprint, principal=None, reason="deleted")))
            outcomes = await asyncio.gather(*tasks)
            ended = outcomes.pop(place)
            seen |= {(name, outcome) for (_, name), outcome in zip(racing, outcomes, strict=True)}

            assert ended is not None
            with redis_server.client() as redis:
                assert keys_of(redis, fingerprint) == ["ended", "ended-record"]
            if round_ >= 20 and wanted <= seen:
                break
            assert round_ < 200, f"never raced: {wanted - seen}"


def touch_until_gone(url: str, fingerprint: str, ready: Any, results: Any) -> None:
    """In a process of its own: touch, and append, until the session is gone; report how often."""
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}

    async def main() -> int:
        store = a_process("races")
        ready.wait()
        touched = 0
        while await store.run(sessions.touch(fingerprint, principal=ANONYMOUS, limits=LIMITS, call="ping")):
            touched += 1
        gone = [await act(store, name, fingerprint) for name in sorted(ACTS)]
        await store.aclose()
        assert "done" not in gone
        return touched

    results.put(asyncio.run(main()))


async def count_of(store: RedisStore, fingerprint: str) -> int:
    session = await store.run(sessions.get(fingerprint))
    assert session is not None
    return session.requests


@pytest.mark.usefixtures("redis_caches")
async def test_processes_that_touch_while_another_ends_all_see_the_end(redis_server: RedisServer) -> None:
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(3), context.Queue()
    fingerprint = a_fingerprint()
    async with open_processes("races", 1) as (store,):
        await store.run(sessions.create(fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=LIMITS))
        workers = [
            context.Process(target=touch_until_gone, args=(redis_server.url, fingerprint, ready, results))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        await asyncio.to_thread(ready.wait, 60)
        async with asyncio.timeout(60):
            while await count_of(store, fingerprint) < 200:
                continue
        ended = await store.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
        touched = [await asyncio.to_thread(results.get, timeout=60) for _ in workers]
        for worker in workers:
            await asyncio.to_thread(worker.join, 60)

    assert ended is not None
    assert sum(touched) == ended.requests, (
        "every touch that was answered was counted, and none came after the end"
    )
    assert all(touched), "both processes have touched the session"
    assert [worker.exitcode for worker in workers] == [0, 0]
    with redis_server.client() as redis:
        assert keys_of(redis, fingerprint) == ["ended", "ended-record"]


@pytest.mark.parametrize("kind_of_store", ["embedded", "redis"])
@pytest.mark.usefixtures("redis_caches")
async def test_the_admins_threads_and_the_event_loop_end_a_session_once(kind_of_store: str) -> None:
    harness = embedded_harness() if kind_of_store == "embedded" else redis_harness("standalone")
    for _ in range(20):
        fingerprint = await harness.open()
        start = threading.Barrier(4)

        def end_in_a_thread(fingerprint: str = fingerprint, start: threading.Barrier = start) -> Any:
            start.wait()
            return harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))

        async def end_on_the_loop(fingerprint: str = fingerprint, start: threading.Barrier = start) -> Any:
            await asyncio.to_thread(start.wait)
            return await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

        ended = await asyncio.gather(
            *[asyncio.to_thread(end_in_a_thread) for _ in range(3)],
            end_on_the_loop(),
            harness.touch(fingerprint),
        )

        assert sum(session is not None for session in ended[:4]) == 1
        assert await harness.store.run(sessions.get(fingerprint)) is None
    await harness.aclose()


async def test_threads_read_memory_while_the_loop_changes_it() -> None:
    harness = embedded_harness()
    harness.limit(max_sessions=50)
    stop = threading.Event()

    def look() -> int:

        pages = 0
        while not stop.is_set():
            page = harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))
            assert page.total <= 50
            harness.sync.run(indexes.clients(limits=harness.limits))
            pages += 1
        return pages

    watching = [asyncio.create_task(asyncio.to_thread(look)) for _ in range(2)]
    for _ in range(200):
        fingerprint = await harness.open()
        await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
        await asyncio.sleep(0)
    stop.set()

    assert all(pages > 0 for pages in await asyncio.gather(*watching))
